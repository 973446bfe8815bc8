"""Calls and modules that wait until they are needed."""

import copy
import pickle
import sys
from fractions import Fraction

import pytest

from openrlhf_ext.upstream.lean import DeferredCall, _LaterModule, sampling_params


def test_a_deferred_call_is_made_by_whoever_unpickles_it():
    assert pickle.loads(pickle.dumps(DeferredCall("fractions.Fraction", (3,), {"denominator": 4}))) == Fraction(3, 4)


def test_its_keyword_arguments_can_be_read_and_changed_before():
    call = DeferredCall("fractions.Fraction", (3,), {"denominator": 4})
    call.denominator += 1
    assert call.denominator == 5
    assert pickle.loads(pickle.dumps(call)) == Fraction(3, 5)
    with pytest.raises(AttributeError, match=r"numerator was not given to fractions\.Fraction"):
        call.numerator  # noqa: B018


def test_sampling_params_do_not_import_vllm():
    loaded = "vllm" in sys.modules
    params = sampling_params(temperature=0.5, max_tokens=3)
    assert (params.temperature, params.max_tokens) == (0.5, 3)
    assert ("vllm" in sys.modules) == loaded


def test_a_module_is_loaded_when_one_of_its_names_is_used():
    later = _LaterModule("fractions")
    assert later.Fraction is Fraction
    assert (
        copy.copy(vars(later)).keys().isdisjoint({"Fraction"})
    )  # nothing is kept: the real module stays the only truth
    with pytest.raises(AttributeError):
        later.__path__  # noqa: B018


def test_a_worker_unpickles_the_module_itself():
    import fractions

    assert pickle.loads(pickle.dumps(_LaterModule("fractions"))) is fractions
