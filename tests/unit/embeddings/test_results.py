"""Results: lists or arrays, and the error for texts without a vector."""

import numpy as np
import pytest

from griptape_ollama.embeddings.results import converted, not_all_embedded, to_matrix
from griptape_ollama.errors import OllamaError


def test_a_vector_stays_the_list_that_it_is_unless_an_array_is_wanted():
    vector = [0.6, 0.8]
    assert converted(vector, as_numpy=False) is vector
    array = converted(vector, as_numpy=True)
    assert (array.dtype, array.shape) == (np.float32, (2,))


@pytest.mark.parametrize(("vectors", "shape"), [([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], (3, 2)), ([], (0, 0))])
def test_a_matrix_has_a_row_for_each_vector(vectors, shape):
    matrix = to_matrix([converted(vector, as_numpy=True) for vector in vectors])
    assert (matrix.dtype, matrix.shape) == (np.float32, shape)


def test_the_error_names_the_first_text_and_the_indexes_of_the_rest():
    first = OllamaError("too long.", host="http://gpu:11434", model="m")
    failures = {2: first, **{index: OllamaError("no") for index in range(5, 17)}}
    error = not_all_embedded(failures, total=20, vectors=[[1.0], None])
    assert str(error) == (
        "Text 2 of 20 could not be embedded: too long. Neither could 12 more: 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, ...."
    )
    assert (error.index, error.host, error.model, error.vectors) == (2, "http://gpu:11434", "m", [[1.0], None])
    assert (error.failures, error.__cause__) == (failures, first)


def test_the_number_of_texts_is_left_out_if_it_is_not_known():
    assert str(not_all_embedded({0: OllamaError("no.")}, total=None)) == "Text 0 could not be embedded: no."
