"""A small server on this machine that speaks the paths of the Hugging Face hub for dataset repositories.

It answers `api/datasets/<repo>[/revision/<rev>]`, `api/datasets/<repo>/tree/<rev>[/<path>]` and
`datasets/<repo>/resolve/<rev>/<path>` (HEAD and GET, with ranges), as the public documentation of huggingface_hub describes."""
import hashlib, json, threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Repository:
    "Commits, each a mapping path -> content, and names for them"
    def __init__(self, name, files):
        self.name, self.commits, self.names = name, {}, {}
        self.commit(files)

    def commit(self, files, branch='main'):
        sha = hashlib.sha1(repr(sorted((p, hashlib.sha256(d).hexdigest()) for p, d in files.items())).encode() + bytes([len(self.commits)])).hexdigest()
        self.commits[sha], self.names[branch] = dict(files), sha
        return sha

    def resolve(self, revision): return revision if revision in self.commits else self.names.get(revision)


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *_): pass

    def answer(self, status, body=b'', **headers):
        self.send_response(status)
        for name, value in {'Content-Length': str(len(body)), **{k.replace('_', '-'): v for k, v in headers.items()}}.items(): self.send_header(name, value)
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)

    def refuse(self, code, status=404): self.answer(status, b'{"error": "%s"}' % code.encode(), X_Error_Code=code, X_Error_Message=code, Content_Type='application/json')
    def json(self, value): self.answer(200, json.dumps(value).encode(), Content_Type='application/json')

    def do_HEAD(self): self.do_GET()
    def do_GET(self):
        s, path = self.server, unquote(urlsplit(self.path).path)
        s.asked.append((self.command, path))
        if s.failing: return self.answer(s.failing, b'out of order')
        for repo in s.repositories.values():
            for start, handle in ((f'/api/datasets/{repo.name}', self.api), (f'/datasets/{repo.name}/resolve/', self.resolve)):
                if path == start or path.startswith(start if start.endswith('/') else start + '/'): return handle(repo, path[len(start):].strip('/'))
        self.refuse('RepoNotFound')

    def api(self, repo, rest):
        kind, _, rest = rest.partition('/')
        revision, _, inner = rest.partition('/')
        sha = repo.resolve(revision or 'main')
        if sha is None: return self.refuse('RevisionNotFound')
        files = repo.commits[sha]
        if kind == 'tree':
            recursive = 'recursive=true' in self.path.lower()
            found = {p: d for p, d in files.items() if not inner or p.startswith(inner + '/')}
            if inner and not found: return self.refuse('EntryNotFound')
            entries = [{'type': 'file', 'path': p, 'size': len(d), 'oid': hashlib.sha1(d).hexdigest()} for p, d in found.items() if recursive or '/' not in p[len(inner):].strip('/')]
            return self.json(entries)
        self.json({'id': repo.name, 'sha': sha, 'private': False, 'gated': repo.name.endswith('gated'), 'disabled': False, 'downloads': 0, 'likes': 0, 'tags': [], 'siblings': [{'rfilename': p} for p in files]})

    def resolve(self, repo, rest):
        if repo.name.endswith('gated'): return self.refuse('GatedRepo', 403)
        revision, _, file = rest.partition('/')
        sha = repo.resolve(revision)
        if sha is None: return self.refuse('RevisionNotFound')
        if file not in repo.commits[sha]: return self.refuse('EntryNotFound')
        data = repo.commits[sha][file]
        sent = self.server.replaced.get(file, data)
        headers = {'ETag': f'"{hashlib.sha1(data).hexdigest()}"', 'X_Repo_Commit': sha, 'Accept_Ranges': 'bytes'}
        first, last = 0, len(sent) - 1
        if wanted := self.headers.get('Range'):
            a, b = wanted.removeprefix('bytes=').split('-')
            first, last = int(a), int(b) if b else last
            return self.answer(206, sent[first:last + 1], **headers, Content_Range=f'bytes {first}-{last}/{len(sent)}')
        self.answer(200, sent, **headers)


@contextmanager
def hub_server(*repositories):
    "A running server; `.url`, `.asked` (method, path), `.replaced` (path -> other content), `.failing` (a status for everything)"
    s = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    s.daemon_threads = True
    s.repositories, s.asked, s.replaced, s.failing = {r.name: r for r in repositories}, [], {}, 0
    s.url = f'http://127.0.0.1:{s.server_port}'
    threading.Thread(target=s.serve_forever, kwargs={'poll_interval': .01}, daemon=True).start()
    try: yield s
    finally:
        s.shutdown()
        s.server_close()
