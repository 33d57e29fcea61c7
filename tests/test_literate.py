"""The notebooks are literate: prose before code, every public name explained, shown in use and, where one would look, seen.

A rule that is broken is reported with the notebook, the cell's id and the symbol: `nbs/core/models.ipynb 3e3e022b Point.label`."""
import ast, io, json, re, tokenize
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NBS = ROOT/'nbs'
LONGEST_CELL = 60       # lines of exported code
NO_PICTURE = {          # notebooks with several examples where there is nothing to look at: why
    'core/log.ipynb': 'log lines are read in a terminal',
}


class Cell:
    "One cell, with what nbdev will do to it"
    def __init__(self, raw, place):
        self.id, self.kind, self.place, self.outputs = raw['id'], raw['cell_type'], place, raw.get('outputs', [])
        self.source = ''.join(raw['source'])
        lines = self.source.splitlines()
        self.directives = {m[1]: m[2].strip() for l in lines if (m := re.match(r'#\|\s*([\w-]+):?(.*)', l))} if self.kind == 'code' else {}
        self.exported = bool({'export', 'exports', 'exporti'} & self.directives.keys())
        self.hidden = 'hide' in self.directives
        # magics and shell lines become strings, so that the rest can be parsed and their words still count as used
        plain = [re.sub(r'^(\s*)([%!].*)$', lambda m: m[1] + repr(m[2]), l) for l in lines]
        self.tree = ast.parse('\n'.join(plain)) if self.kind == 'code' else ast.Module([], [])
        self.comments = comments('\n'.join(plain)) if self.kind == 'code' else {}
        self.lines = lines

    @property
    def code(self): return [n for n in self.tree.body if not isinstance(n, (ast.Import, ast.ImportFrom)) and not is_typing_only(n)]

    @property
    def example(self): return self.kind == 'code' and not self.exported and 'default_exp' not in self.directives and bool(self.code)


def is_typing_only(node): return isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'

def comments(source):
    "Line number -> whether the comment stands alone there"
    return {t.start[0]: not t.line[:t.start[1]].strip() for t in tokenize.generate_tokens(io.StringIO(source + '\n').readline)
            if t.type == tokenize.COMMENT and not t.string.startswith('#|')}


class Notebook:
    def __init__(self, file):
        self.name = file.relative_to(NBS).as_posix()
        raw = json.loads(file.read_text(encoding='utf-8'))['cells']
        self.cells = [Cell(c, i) for i, c in enumerate(raw)]
        self.exports = any('default_exp' in c.directives for c in self.cells)

    def where(self, cell, symbol=''): return f'nbs/{self.name} {cell.id} {symbol}'.rstrip()

@cache
def read(file): return Notebook(file)

files = sorted(f for f in NBS.rglob('*.ipynb') if not any(p[0] in '._' for p in f.relative_to(NBS).parts))
exporting = [f for f in files if read(f).exports]
each_notebook = pytest.mark.parametrize('nb', [read(f) for f in exporting], ids=[read(f).name for f in exporting])

def report(found): assert not found, '\n' + '\n'.join(found)


# --- prose ---------------------------------------------------------------------------------------------------------------

def words(cell):
    "Words of prose: no heading, no subtitle, no list of page settings"
    text = re.sub(r'(?m)^(#.*|>.*|- \w+: .*)$', '', cell.source)
    return len(re.findall(r'\w+', text))

@each_notebook
def test_title_says_what_it_is(nb):
    first = nb.cells[0]
    assert first.kind == 'markdown' and re.match(r'# \S.*\n+> \S', first.source), nb.where(first, 'wants `# Title` and `> one line`')
    assert re.search(r'(?m)^- order: \d+$', first.source), nb.where(first, 'wants `- order: n`')


@each_notebook
def test_prose_comes_before_code(nb):
    "What the page is about and why, before its first definition"
    first = next((c for c in nb.cells if c.exported and c.code), None)
    if first is None: return
    assert sum(words(c) for c in nb.cells[:first.place] if c.kind == 'markdown') >= 15, nb.where(first, 'defines something before any prose')


@each_notebook
def test_an_example_follows_every_definition(nb):
    "After an exported cell that defines something public comes an example, before the next exported cell"
    found, last = [], None
    for cell in nb.cells:
        if cell.example: last = None
        elif cell.exported and cell.code:
            if last: found.append(nb.where(cell, f'follows {last.id} without an example between them'))
            last = cell if any(isinstance(n, (*functions, ast.ClassDef)) and n.name[0] != '_' for n in cell.code) else None
    report(found)


@each_notebook
def test_exported_cells_fit_a_glance(nb):
    report([nb.where(c, f'has {len(c.lines)} lines; {LONGEST_CELL} are the most') for c in nb.cells if c.exported and len(c.lines) > LONGEST_CELL])


# --- definitions ---------------------------------------------------------------------------------------------------------

functions = (ast.FunctionDef, ast.AsyncFunctionDef)

def names_of(target): return [target.id] if isinstance(target, ast.Name) else [n for e in getattr(target, 'elts', []) for n in names_of(e)]

def public(cell):
    "Public names that the cell exports: functions, classes and values"
    found = []
    for node in cell.code:
        if isinstance(node, (*functions, ast.ClassDef)): found.append(node.name)
        elif isinstance(node, ast.Assign): found += [n for t in node.targets for n in names_of(t)]
        elif isinstance(node, ast.AnnAssign): found += names_of(node.target)
    return [n for n in found if n[0] != '_']

def decorators(node): return [ast.unparse(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]

def is_command(node):
    "A command of the command line: its parameters are options, which carry their own help"
    return any(d.rpartition('.')[2] in ('command', 'group') for d in decorators(node))

def is_record(node):
    return bool({'record', 'dataclass', 'dataclasses.dataclass'} & set(decorators(node))) \
        or bool({'NamedTuple', 'TypedDict', 'Struct', 'msgspec.Struct'} & {ast.unparse(b) for b in node.bases})

def is_protocol(node): return any(ast.unparse(b).partition('[')[0].endswith('Protocol') for b in node.bases)

def is_overload(node): return bool({'overload', 'typing.overload'} & set(decorators(node)))

def is_setter(node): return any(d.endswith(('.setter', '.deleter')) for d in decorators(node))

def commented(cell, start, end):
    "A comment on one of these lines, or alone on the line above"
    return any(n in cell.comments for n in range(start, end + 1)) or cell.comments.get(start - 1, False)

def undocumented(cell, fn, symbol):
    "What docments would not find: parameters and the result of `fn` that have no comment of their own"
    a = fn.args
    positional = [*a.posonlyargs, *a.args]
    defaults = dict(zip(reversed(positional), reversed(a.defaults))) | dict(zip(a.kwonlyargs, a.kw_defaults))
    parameters = [p for p in [*positional, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])] if p.arg not in ('self', 'cls')]
    spans = {p.arg: (p.lineno, (defaults.get(p) or p).end_lineno) for p in parameters if p.arg[0] != '_'}
    result = (fn.returns.lineno, fn.returns.end_lineno) if fn.returns is not None else None
    for name, (start, end) in spans.items():
        shared = [o for o, (s, e) in spans.items() if o != name and s <= end and start <= e]
        if shared or (result and result[0] <= end): yield f'{symbol}({name}) wants a line and a comment of its own'
        elif not commented(cell, start, end): yield f'{symbol}({name}) has no comment'
    nothing = ('None', 'NoReturn', 'Never', *(['Iterator[None]', 'Generator[None]'] if 'contextmanager' in decorators(fn) else []))
    if result and ast.unparse(fn.returns) not in nothing and not any(n in cell.comments for n in range(result[0], result[1] + 1)):
        yield f'{symbol} -> {ast.unparse(fn.returns)} has no comment'

def check_function(cell, fn, symbol):
    if is_overload(fn) or is_setter(fn): return
    if not ast.get_docstring(fn): yield f'{symbol} has no docstring'
    if not is_command(fn): yield from undocumented(cell, fn, symbol)
    for option in fn.decorator_list if is_command(fn) else []:
        if ast.unparse(option).startswith(('click.option', 'option')) and not any(k.arg == 'help' for k in option.keywords):
            yield f'{symbol}: {ast.unparse(option)[:60]} has no help'

def overrides(nb, cls, method):
    "Whether a base class or a protocol of this notebook has the method: then its explanation is there, and its use is that of the base"
    if not is_protocol(cls) and any(isinstance(n, functions) and n.name == method for c in nb.cells if c.exported for p in c.code
                                    if isinstance(p, ast.ClassDef) and is_protocol(p) for n in p.body): return True
    bases = getattr(import_module('calibrax.' + nb.name.removesuffix('.ipynb').replace('/', '.')), cls.name).__mro__[1:-1]
    return any(method in vars(base) for base in bases)

def check_class(nb, cell, cls, owner):
    "`owner` is the public class through which the methods of a private layer are met"
    if cls.name[0] != '_' and not ast.get_docstring(cls): yield f'{cls.name} has no docstring'
    for node in cls.body:
        if isinstance(node, functions):
            if node.name == '__init__' and not is_overload(node): yield from undocumented(cell, node, f'{owner}.__init__')
            elif node.name[0] != '_' and not overrides(nb, cls, node.name): yield from check_function(cell, node, f'{owner}.{node.name}')
        elif isinstance(node, ast.AnnAssign) and is_record(cls) and node.target.id[0] != '_' and not commented(cell, node.lineno, node.end_lineno):
            yield f'{owner}.{node.target.id} has no comment'

def classes(nb):
    "(cell, class, public class it belongs to): the public ones, and the private layers that these are built on"
    defined = {n.name: (c, n) for c in nb.cells if c.exported for n in c.code if isinstance(n, ast.ClassDef)}
    found = {}
    def take(name, owner):
        if name not in defined or name in found: return
        found[name] = (*defined[name], owner)
        for base in defined[name][1].bases: take(ast.unparse(base).partition('[')[0], owner)
    for name in defined:
        if name[0] != '_': take(name, name)
    return list(found.values())

@each_notebook
def test_public_names_are_documented(nb):
    found = [nb.where(c, m) for c in nb.cells if c.exported for n in c.code if isinstance(n, functions) and n.name[0] != '_' for m in check_function(c, n, n.name)]
    report(found + [nb.where(c, m) for c, n, owner in classes(nb) for m in check_class(nb, c, n, owner)])


# --- examples ------------------------------------------------------------------------------------------------------------

def used_in(cell):
    "Names, attributes, keywords and words of shell lines and texts: a command is used by its name in a text"
    for node in ast.walk(cell.tree):
        if isinstance(node, ast.Name): yield node.id
        elif isinstance(node, ast.Attribute): yield '.' + node.attr; yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str): yield from (f'"{w}"' for w in re.findall(r'[\w-]+', node.value))

def required_uses(nb):
    "(cell, symbol, what an example must hold)"
    for cell in nb.cells:
        if not cell.exported: continue
        for node in cell.code:
            if isinstance(node, functions) and node.name[0] != '_' and not is_overload(node):
                texts = {node.name, node.name.replace('_', '-')} | {k.value for d in node.decorator_list for k in ast.walk(d) if isinstance(k, ast.Constant) and isinstance(k.value, str)}
                yield cell, node.name, {node.name} | ({f'"{t}"' for t in texts} if is_command(node) else set())
            elif isinstance(node, ast.ClassDef) and node.name[0] != '_': yield cell, node.name, {node.name}
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                for name in public_values(node): yield cell, name, {name}
    for cell, cls, owner in classes(nb):
        for node in [] if is_protocol(cls) else cls.body:      # a protocol's methods are for others to write
            if isinstance(node, functions) and node.name[0] != '_' and not is_overload(node) and not is_setter(node) and not overrides(nb, cls, node.name):
                yield cell, f'{owner}.{node.name}', {f'.{node.name}'}

def public_values(node):
    "The names that a statement binds, but for the logger and what only type checkers read"
    if isinstance(node.value, ast.Call) and ast.unparse(node.value.func).rpartition('.')[2] in ('TypeVar', 'ParamSpec', 'TypeVarTuple', 'get_logger'): return []
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith('TypeAlias'): return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [n for t in targets for n in names_of(t) if n[0] != '_']

@each_notebook
def test_public_names_are_shown_in_use(nb):
    "In a cell that is not exported, from the definition on"
    uses = {c.place: set(used_in(c)) | ({'.table'} if 'text/html' in stored(c) else set()) for c in nb.cells if c.example}    # a rich display is a `table()`
    report([nb.where(cell, f'{symbol} is used in no example of this notebook') for cell, symbol, wanted in required_uses(nb)
            if not any(place >= cell.place and wanted & used for place, used in uses.items())])


# --- outputs -------------------------------------------------------------------------------------------------------------

def shows_something(cell):
    "Whether the last statement surely prints or displays: a print, or a value that is no call"
    if cell.directives.get('eval') == 'false' or cell.lines[-1].rstrip().endswith(';'): return False
    last = cell.tree.body[-1]
    if not isinstance(last, ast.Expr): return False
    if isinstance(last.value, ast.Call): return ast.unparse(last.value.func) == 'print'
    return isinstance(last.value, (ast.Name, ast.Tuple, ast.List, ast.Dict, ast.BinOp, ast.Compare, ast.JoinedStr, ast.ListComp))

def stored(cell): return {kind for o in cell.outputs for kind in o.get('data', {o['output_type']: 0})}

@each_notebook
def test_outputs_are_stored(nb):
    flagged = {'slow', 'gpu', 'online'}
    report([nb.where(c, 'shows something, but no output is stored: run tools/nbpy.py run') for c in nb.cells
            if c.example and not c.hidden and shows_something(c) and not c.outputs and not flagged & c.directives.keys()])


def wants_picture(nb): return sum(c.example and not c.hidden for c in nb.cells) > 3

def has_picture(nb): return any(stored(c) & {'image/png', 'image/svg+xml', 'text/html', 'text/markdown'} for c in nb.cells if not c.hidden)

@each_notebook
def test_there_is_something_to_see(nb):
    if wants_picture(nb) and nb.name not in NO_PICTURE:
        assert has_picture(nb), f'nbs/{nb.name} has examples, but neither a picture nor a table'


def test_exceptions_are_still_needed():
    known = {read(f).name: read(f) for f in exporting}
    for name in NO_PICTURE:
        assert name in known and not has_picture(known[name]), f'{name} needs no exception any more: drop it from NO_PICTURE'


@each_notebook
def test_formulas_are_not_escaped_twice(nb):
    "A doubled backslash before a command is a line break in TeX, and the command's name is then typeset as text"
    wrong = [f'{nb.where(c)}: {m[0]}' for c in nb.cells if c.kind == 'markdown' for m in re.finditer(r'(?<!\\)\\\\[a-zA-Z]{2,}', c.source)]
    assert not wrong, wrong
