"""The lexical model: TF-IDF as scikit-learn's, one SVM a label, stored without a word of a note."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from pipeline.errors import UserError
from pipeline.experiment.training_settings import Lexical
from pipeline.lexical.tfidf import UNSEEN_SCORE, LexicalModel, LinearScores, Vectorizer, _largest

TEXTS = [
    "Cough and fever.", "No cough today", "fever, chills and cough", "Pneumonia of the left lung",
    "left lower lobe pneumonia with fever", "normal chest", "chest pain", "chest pain and fever",
]  # fmt: skip
TRUE = sparse.csr_array(
    np.array([[("fever" in text), ("pneumonia" in text.lower()), False, True] for text in TEXTS], dtype=np.bool_)
)


def fitted(settings: Lexical, n_threads: int = 1) -> LexicalModel:
    vectorizer = Vectorizer.fit(lambda: TEXTS, settings)
    rows = vectorizer.transform(TEXTS)
    return LexicalModel(vectorizer, LinearScores.fit(rows, TRUE, settings, n_threads=n_threads, seed=0))


def test_rows_are_those_of_scikit_learn_up_to_the_order_of_columns() -> None:
    """Hashing permutes columns, so all products of two rows agree; each part has length 1, so together 2."""
    settings = Lexical(min_documents=2)
    ours = Vectorizer.fit(lambda: TEXTS, settings)
    blocks = [
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2).fit_transform(TEXTS),
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"(?u)\b\w+\b").fit_transform(
            TEXTS
        ),
    ]
    theirs = sparse.hstack(blocks)
    rows = ours.transform(TEXTS)
    assert rows.shape == theirs.shape
    np.testing.assert_allclose((rows @ rows.T).toarray(), (theirs @ theirs.T).toarray(), atol=1e-5)


def test_scores_are_those_of_a_linear_svm_on_these_rows() -> None:
    settings = Lexical(c=2.0)
    model = fitted(settings)
    rows = model.vectorizer.transform(TEXTS)
    for label in (0, 1):
        expected = LinearSVC(C=2.0, dual=False).fit(rows, TRUE.toarray()[:, label])
        np.testing.assert_allclose(model.scores(TEXTS)[:, label], expected.decision_function(rows), atol=1e-4)


def test_a_label_of_no_document_and_one_of_all_have_a_score_of_their_own() -> None:
    scores = fitted(Lexical()).scores(TEXTS)
    assert (scores[:, 2] == np.float32(UNSEEN_SCORE)).all()
    assert (scores[:, 3] > 1).all()
    assert scores.dtype == np.float32


def test_threads_change_nothing_and_limits_hold() -> None:
    settings = Lexical(max_features=30, max_weights=10, max_negatives=3)
    one, two = fitted(settings), fitted(settings, n_threads=2)
    np.testing.assert_array_equal(one.scores(TEXTS), two.scores(TEXTS))
    assert one.vectorizer.n_features <= 60
    assert np.diff(one.linear.weights.indptr).max() <= 10


def test_a_saved_model_gives_the_very_scores_and_holds_no_word(tmp_path: Path) -> None:
    model = fitted(Lexical())
    model.save(tmp_path / "lexical")
    loaded = LexicalModel.load(tmp_path / "lexical", 4)
    texts = [*TEXTS, "", "something never seen", "\u200b"]
    np.testing.assert_array_equal(loaded.scores(texts), model.scores(texts))
    content = b"".join(path.read_bytes() for path in (tmp_path / "lexical").iterdir())
    assert b"pneumo" not in content.lower()
    assert b"cough" not in content.lower()


@pytest.mark.parametrize("n_labels", [3, 5])
def test_a_model_of_another_label_space_is_refused(tmp_path: Path, n_labels: int) -> None:
    fitted(Lexical()).save(tmp_path / "lexical")
    with pytest.raises(UserError, match="damaged or of another label space"):
        LexicalModel.load(tmp_path / "lexical", n_labels)


def test_texts_without_a_common_word_are_a_users_mistake() -> None:
    with pytest.raises(UserError, match=r"no n-gram is in 2 of the 2 documents that are learned from"):
        Vectorizer.fit(lambda: ["abc", "xyz"], Lexical(char_ngrams=False))
    assert Vectorizer.fit(lambda: TEXTS, Lexical()).transform_all([]).shape[0] == 0


def test_of_too_many_weights_the_largest_are_kept_whatever_their_sign() -> None:
    weights = np.float32([0.5, -3, 2, 0, -0.25, 1])
    assert _largest(weights.copy(), 2).toarray().tolist() == [[0, -3, 2, 0, 0, 0]]
    assert _largest(weights.copy(), 4).toarray().tolist() == [[0.5, -3, 2, 0, 0, 1]]
    assert _largest(weights.copy(), 5).toarray().tolist() == [weights.tolist()], "five are not 0"
    settings = Lexical(char_ngrams=False, min_documents=1, max_weights=3)
    assert np.diff(fitted(settings).linear.weights.indptr).tolist() == [3, 3, 0, 0]


def test_of_too_many_n_grams_the_most_frequent_are_kept() -> None:
    """Words in 3, 2 and 1 of three texts, and pairs of words in one: idf of n texts is log(4 / (1 + n)) + 1."""
    settings = Lexical(char_ngrams=False, min_documents=1, max_features=2)
    vectorizer = Vectorizer.fit(lambda: ["fever cough", "cough chills fever", "fever"], settings)
    assert sorted(vectorizer.idf["words"].tolist()) == pytest.approx([1, np.log(4 / 3) + 1])
    assert (vectorizer.transform(["fever"]).toarray() != 0).sum() == 1
    assert (vectorizer.transform(["cough fever"]).toarray() != 0).sum() == 2
    assert not vectorizer.transform(["chills"]).nnz


def test_no_more_documents_without_a_label_are_learned_from_than_asked_for() -> None:
    """Those drawn for the label: with them alone a linear SVM has the same scores."""
    generator = np.random.default_rng(1)
    rows = sparse.csr_array(generator.random((40, 5)).astype(np.float32))
    true = np.zeros((40, 2), dtype=np.bool_)
    true[:6, 1] = True
    settings = Lexical(max_negatives=7)
    found = LinearScores.fit(rows, sparse.csr_array(true), settings, n_threads=1, seed=3).scores(rows)[:, 1]
    drawn = np.random.default_rng(3 + 1).choice(np.arange(6, 40), 7, replace=False)
    kept = np.sort([*range(6), *drawn])
    expected = LinearSVC(dual=False).fit(rows[kept], true[kept, 1])
    np.testing.assert_allclose(found, expected.decision_function(rows), atol=1e-4)
    of_all = LinearSVC(dual=False).fit(rows, true[:, 1])
    assert np.abs(found - of_all.decision_function(rows)).max() > 0.1
