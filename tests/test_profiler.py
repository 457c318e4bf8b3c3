"""Traces of what a program does."""

import gzip
import json
import threading

import pytest

import funtorch as ft
from funtorch import profiler


def events(folder):
    (path,) = folder.rglob("*.trace.json.gz")
    with gzip.open(path, "rt") as file:
        return json.load(file)["traceEvents"]


def test_a_trace_holds_calls_and_annotations(tmp_path):
    def double(x):
        return 2 * x

    f, call = ft.jit(double), ft.stages.Wrapped.__call__
    with profiler.trace(tmp_path, create_perfetto_link=False):
        with profiler.StepTraceAnnotation("train", step_num=3):
            f(1.0)
        named = profiler.annotate_function(lambda x: f(x), name="named", kind=int)
        thread = threading.Thread(target=named, args=(2.0,))
        thread.start(), thread.join()
    f(3.0)
    assert ft.stages.Wrapped.__call__ is call
    found = {e["name"]: e for e in events(tmp_path)}
    assert [e["name"] for e in events(tmp_path)].count("jit(double)") == 2
    assert found["train"]["args"] == {"step_num": 3}
    assert found["named"]["args"] == {"kind": "<class 'int'>"}
    assert found["named"]["tid"] == found["jit(double)"]["tid"] != found["train"]["tid"]
    assert all(e["ph"] == "X" and e["dur"] >= 0 and e["ts"] >= 0 for e in found.values())


def test_one_trace_at_a_time(tmp_path):
    with pytest.raises(RuntimeError, match="no trace has begun: call start_trace first"):
        profiler.stop_trace()
    profiler.start_trace(tmp_path)
    with pytest.raises(RuntimeError, match="a trace has begun already"):
        profiler.start_trace(tmp_path / "other")
    assert profiler.stop_trace().is_file()
    assert events(tmp_path) == []
    with profiler.TraceAnnotation("outside of any"):
        pass
