"""Downloads: whole or not at all, the right file, never without being asked for. A server on this machine stands in for the network."""
import hashlib, multiprocessing, pickle, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import calibrax.core.download as module
from calibrax.core.download import download, file_sha256
from calibrax.core.errors import DatasetError, DownloadError

DATA = hashlib.shake_256(b'calibrax').digest(300_000)
SHA = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *_): pass

    def do_GET(self):
        s = self.server
        first = int(self.headers['Range'][6:-1]) if 'Range' in self.headers else 0
        s.asked.append((self.path, first, self.headers.get('If-Range')))
        behaviour = s.behaviours.pop(0) if s.behaviours else 'answer'
        if behaviour.startswith('status'): return self.send_error(int(behaviour.split()[1]))
        if behaviour.startswith('redirect'):
            self.send_response(302)
            self.send_header('Location', behaviour.split()[1])
            self.send_header('Content-Length', '0')
            return self.end_headers()
        if behaviour == 'ignore range' or (behaviour == 'changed' and first): first = 0
        rest = s.data[first:]
        self.send_response(206 if first else 200)
        if behaviour != 'no length': self.send_header('Content-Length', str(len(rest)))
        if behaviour not in ('no tag', 'break without tag'): self.send_header('ETag', '"v2"' if behaviour == 'changed' else '"v1"')
        if first: self.send_header('Content-Range', f'bytes {first}-{len(s.data) - 1}/{len(s.data)}')
        self.send_header('Connection', 'close')
        self.end_headers()
        self.close_connection = True
        if behaviour == 'silence': s.quiet.wait(5)
        self.wfile.write(rest[:len(rest)//2] if behaviour.startswith('break') else rest)


@pytest.fixture
def server(monkeypatch):
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'CALIBRAX_OFFLINE'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, '_PAUSE', 0)
    s = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    s.data, s.asked, s.behaviours, s.quiet = DATA, [], [], threading.Event()
    s.url = f'http://127.0.0.1:{s.server_port}/files/weights.bin'
    threading.Thread(target=s.serve_forever, kwargs={'poll_interval': .01}, daemon=True).start()
    yield s
    s.quiet.set()
    s.shutdown()
    s.server_close()


def names(folder): return sorted(p.name for p in Path(folder).rglob('*') if p.is_file())


def test_fetched_once_and_found_again(server, tmp_path):
    first = download(server.url, sha256=SHA, folder=tmp_path)
    assert first == tmp_path/'weights.bin' and first.read_bytes() == DATA
    assert download(server.url, sha256=SHA[:8], folder=tmp_path) == first and len(server.asked) == 1
    assert names(tmp_path) == ['weights.bin']


def test_the_cache_keeps_addresses_apart(server, tmp_path, monkeypatch):
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path))
    one, two = download(server.url), download(server.url + '?version=2')
    assert one != two and one.name == two.name == 'weights.bin' and one.is_relative_to(tmp_path)
    assert download(server.url) == one and len(server.asked) == 2


def test_name_and_progress(server, tmp_path):
    seen = []
    file = download(server.url, folder=tmp_path/'new'/'folder', name='mine.bin', progress=lambda *a: seen.append(a))
    assert file.name == 'mine.bin' and seen[-1] == (len(DATA), len(DATA)) and [a for a, _ in seen] == sorted(a for a, _ in seen)
    with pytest.raises(DownloadError, match='without folders'): download(server.url, folder=tmp_path, name='../mine.bin')


@pytest.mark.parametrize('address', ['path', 'str', 'file://'])
def test_a_file_on_the_disk_is_used_where_it_lies(tmp_path, address):
    file = tmp_path/'a b.bin'
    file.write_bytes(DATA)
    source = {'path': file, 'str': str(file), 'file://': file.as_uri()}[address]
    assert download(source, sha256=SHA) == file
    with pytest.raises(DownloadError) as caught: download(source, sha256='0'*64)
    assert SHA in str(caught.value) and '0'*64 in str(caught.value) and caught.value.hint
    assert file.read_bytes() == DATA


# --- a network that misbehaves -----------------------------------------------------------------------------------------

def test_a_broken_answer_is_resumed(server, tmp_path):
    server.behaviours = ['break', 'break']
    assert download(server.url, sha256=SHA, folder=tmp_path).read_bytes() == DATA
    assert [(first, tag) for _, first, tag in server.asked] == [(0, None), (150_000, '"v1"'), (225_000, '"v1"')]


@pytest.mark.parametrize('second', ['changed', 'ignore range'])
def test_another_file_after_the_break_starts_again(server, tmp_path, second):
    server.behaviours = ['break', second]
    assert download(server.url, sha256=SHA, folder=tmp_path).read_bytes() == DATA


def test_without_a_tag_it_starts_again(server, tmp_path):
    server.behaviours = ['break without tag']
    assert download(server.url, sha256=SHA, folder=tmp_path).read_bytes() == DATA
    assert [first for _, first, _ in server.asked] == [0, 0]


@pytest.mark.parametrize('behaviours', [['break']*9, ['status 503']*9, ['silence']*9], ids=lambda b: b[0])
def test_after_four_attempts_nothing_is_left(server, tmp_path, behaviours):
    server.behaviours = behaviours
    with pytest.raises(DownloadError, match='4 times') as caught: download(server.url, folder=tmp_path, timeout=.2)
    assert caught.value.hint and len(server.asked) == 4 and names(tmp_path) == []


def test_busy_then_ready(server, tmp_path):
    server.behaviours = ['status 503', 'status 429']
    assert download(server.url, sha256=SHA, folder=tmp_path).read_bytes() == DATA


@pytest.mark.parametrize('status', [401, 403, 404, 410])
def test_a_final_answer_is_not_asked_for_twice(server, tmp_path, status):
    server.behaviours = [f'status {status}']*4
    with pytest.raises(DownloadError, match=str(status)) as caught: download(server.url, folder=tmp_path)
    assert caught.value.hint and caught.value.details['status'] == status and len(server.asked) == 1 and names(tmp_path) == []
    assert caught.value.__context__ is None         # it would be pickled, too, once Dask is imported, and holds an open file
    assert isinstance(caught.value, (OSError, DatasetError)) and str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_wrong_file_is_not_kept(server, tmp_path):
    server.data = b'a login page'
    with pytest.raises(DownloadError) as caught: download(server.url, sha256=SHA, folder=tmp_path)
    assert SHA in str(caught.value) and hashlib.sha256(b'a login page').hexdigest() in str(caught.value) and names(tmp_path) == []


def test_a_file_of_the_users_is_not_touched(server, tmp_path):
    (tmp_path/'weights.bin').write_bytes(b'mine')
    with pytest.raises(DownloadError, match='not the file that was asked for'): download(server.url, sha256=SHA, folder=tmp_path)
    assert (tmp_path/'weights.bin').read_bytes() == b'mine' and server.asked == []


def test_without_a_length_the_hash_tells(server, tmp_path):
    server.behaviours = ['no length']
    assert download(server.url, sha256=SHA, folder=tmp_path).read_bytes() == DATA


def test_a_server_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(module, '_PAUSE', 0)
    with pytest.raises(DownloadError, match='cannot be reached') as caught: download('http://127.0.0.1:9/weights.bin', folder=tmp_path, timeout=2)
    assert 'path of a file' in caught.value.hint and names(tmp_path) == []


def test_secrets_stay_out_of_messages(server, tmp_path):
    server.behaviours = ['status 404']
    with pytest.raises(DownloadError) as caught: download(server.url + '?token=secret', folder=tmp_path)
    assert 'secret' not in repr(caught.value) + str(caught.value) + str(caught.value.details)


@pytest.mark.parametrize('target', ['file:///etc/hosts', 'ftp://127.0.0.1/a'])
def test_redirects_do_not_leave_the_web(server, tmp_path, target):
    server.behaviours = [f'redirect {target}']*4
    with pytest.raises(DownloadError): download(server.url, folder=tmp_path)
    assert names(tmp_path) == []


def test_redirects_are_followed(server, tmp_path):
    server.behaviours = ['redirect /elsewhere']
    assert download(server.url, sha256=SHA, folder=tmp_path).read_bytes() == DATA and [p for p, *_ in server.asked] == ['/files/weights.bin', '/elsewhere']


def test_the_hub(server, tmp_path, monkeypatch):
    monkeypatch.setenv('HF_ENDPOINT', f'http://127.0.0.1:{server.server_port}')
    assert download('hf://owner/name@v1/sub/weights.bin', sha256=SHA, folder=tmp_path).read_bytes() == DATA
    assert server.asked[0][0] == '/owner/name/resolve/v1/sub/weights.bin'


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path/'file').write_text('')
    with pytest.raises(DownloadError, match='cannot write') as caught: download(server.url, folder=tmp_path/'file')
    assert caught.value.hint


@pytest.mark.parametrize('wrong', ['', 'abc', 'x'*64, 12345678, 'a'*65])
def test_hashes_that_are_none(wrong, tmp_path):
    with pytest.raises(DownloadError, match='sha256'): download(tmp_path, sha256=wrong)


# --- wanted ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('value', ['1', 'true', 'yes'])
def test_offline_asks_nobody(server, tmp_path, monkeypatch, value):
    monkeypatch.setenv('CALIBRAX_OFFLINE', value)
    monkeypatch.setattr('socket.socket.connect', lambda *_: pytest.fail('went to the network'))
    with pytest.raises(DownloadError, match='CALIBRAX_OFFLINE') as caught: download(server.url, folder=tmp_path)
    assert str(tmp_path/'weights.bin') in caught.value.hint and server.asked == []


def test_offline_uses_what_is_here(server, tmp_path, monkeypatch):
    file = download(server.url, folder=tmp_path)
    monkeypatch.setenv('CALIBRAX_OFFLINE', '1')
    assert download(server.url, sha256=SHA, folder=tmp_path) == file


@pytest.mark.parametrize('value', ['', '0', 'false', 'No'])
def test_not_offline(value, monkeypatch):
    monkeypatch.setenv('CALIBRAX_OFFLINE', value)
    assert not module.is_offline()


def test_import_is_light_and_silent():
    code = 'import socket; socket.socket.connect = lambda *_: 1/0\nimport calibrax.core.download, sys; print([m for m in ("jax", "numpy", "tqdm", "fsspec") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'


# --- many at once ------------------------------------------------------------------------------------------------------

def test_threads_share_one_download(server, tmp_path):
    with ThreadPoolExecutor(12) as pool: found = list(pool.map(lambda _: download(server.url, sha256=SHA, folder=tmp_path), range(24)))
    assert len(set(found)) == 1 and found[0].read_bytes() == DATA and len(server.asked) == 1


def _in_a_process(task):
    url, folder = task
    return file_sha256(download(url, sha256=SHA, folder=folder))


def test_processes_see_whole_files(server, tmp_path):
    with multiprocessing.get_context('spawn').Pool(3) as pool: found = pool.map(_in_a_process, [(server.url, str(tmp_path))]*6)
    assert set(found) == {SHA} and names(tmp_path) == ['weights.bin']


def test_an_interrupted_download_leaves_nothing(server, tmp_path):
    def stop(received, total): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): download(server.url, folder=tmp_path, progress=stop)
    assert names(tmp_path) == []
    assert download(server.url, sha256=SHA, folder=tmp_path).read_bytes() == DATA


# --- what is no address, and answers that are no file ---------------------------------------------------------------------

@pytest.mark.parametrize('source', ['http://[::1/x', 'http://a:b/x', 'http://a/b c', 'http:///x', 'http://a/\n', None, b'http://a/x', 3, Path('http://a/x'), ''], ids=repr)
def test_what_is_no_address_is_said_at_once(source, tmp_path, monkeypatch):
    monkeypatch.setattr('socket.socket.connect', lambda *_: pytest.fail('went to the network'))
    with pytest.raises(DownloadError) as caught: download(source, folder=tmp_path)
    assert caught.value.hint and names(tmp_path) == []


@pytest.mark.parametrize('wrong', [{'timeout': 'a'}, {'timeout': 0}, {'timeout': None}, {'name': 3}, {'name': b'a'}, {'folder': 3}], ids=str)
def test_arguments_of_other_types(wrong, tmp_path):
    with pytest.raises(DownloadError, match=next(iter(wrong))) as caught: download('http://127.0.0.1:9/a', **{'folder': tmp_path} | wrong)
    assert caught.value.hint


def test_addresses_with_other_letters(server, tmp_path):
    assert download(server.url.replace('weights', 'größe'), sha256=SHA, folder=tmp_path) == tmp_path/'größe.bin'
    assert server.asked[0][0] == '/files/gr%C3%B6%C3%9Fe.bin'


@pytest.mark.parametrize(('status', 'headers'), [(204, {}), (206, {'Content-Range': 'bytes 0-9/20', 'Content-Length': '10'}), (200, {'Content-Length': 'abc'}), (200, {'Content-Encoding': 'gzip', 'Content-Length': '10'}), (200, {'Content-Length': '10', 'Empty': '1'})], ids=str)
def test_answers_that_are_no_file_are_not_kept(server, tmp_path, monkeypatch, status, headers):
    def answer(self):
        self.send_response(status)
        for item in headers.items(): self.send_header(*item)
        self.send_header('Connection', 'close')
        self.end_headers()
        if status != 204 and 'Empty' not in headers: self.wfile.write(b'0123456789')
    monkeypatch.setattr(Handler, 'do_GET', answer)
    with pytest.raises(DownloadError) as caught: download(server.url, folder=tmp_path)
    assert caught.value.hint and names(tmp_path) == []
