"""results.json against the specification that Gradescope publishes, written down here as a schema."""

import json

import jsonschema
import pytest
from pretend_class import entry, hostile, record

from dca_lab.grading.gradescope import VISIBILITY, gradescope_result

# "Autograder Specifications", section "Output format", of gradescope/autograder_samples: docs/specs.md
FORMAT = {"enum": ["text", "html", "simple_format", "md", "ansi"]}
WHEN = {"enum": ["hidden", "after_due_date", "after_published", "visible"]}
TEST = {
    "type": "object",
    "additionalProperties": False,
    "required": ["score", "max_score", "status", "name", "output", "visibility"],
    "properties": {
        "score": {"type": "number"},
        "max_score": {"type": "number"},
        "status": {"enum": ["passed", "failed"]},
        "name": {"type": "string"},
        "name_format": FORMAT,
        "number": {"type": "string"},
        "output": {"type": "string"},
        "output_format": FORMAT,
        "tags": {"type": "array", "items": {"type": "string"}},
        "visibility": WHEN,
        "extra_data": {"type": "object"},
    },
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["score", "tests", "stdout_visibility"],
    "properties": {
        "score": {"type": "number"},
        "execution_time": {"type": "number"},
        "output": {"type": "string"},
        "output_format": FORMAT,
        "test_output_format": FORMAT,
        "test_name_format": FORMAT,
        "visibility": WHEN,
        "stdout_visibility": WHEN,
        "extra_data": {"type": "object"},
        "tests": {"type": "array", "items": TEST},
        "leaderboard": {"type": "array"},
    },
}
MIXED = (
    entry(2, 2),
    entry(
        0,
        3,
        message="Clip after adding.",
        mistake="clipped_first",
        public={"passed": False, "message": "case 2"},
    ),
    entry(2.5, 5, message="Smaller earns more.", public={}),
)


@pytest.mark.parametrize("one", [record("ann"), record("bob", *MIXED), hostile(), {}, {"exercises": []}])
def test_any_record_fits_the_schema_and_is_written_as_json(one):
    text = json.dumps(gradescope_result(one), allow_nan=False)
    jsonschema.validate(json.loads(text), SCHEMA)
    text.encode("utf-8")
    assert "\\ud8" not in text and "\\u001b" not in text and len(text) < 100_000


def test_the_points_add_up_and_the_status_is_theirs():
    result = gradescope_result(record("bob", *MIXED))
    assert result["score"] == sum(test["score"] for test in result["tests"]) == 4.5
    assert result["extra_data"]["max_score"] == sum(test["max_score"] for test in result["tests"]) == 10
    assert [test["status"] for test in result["tests"]] == ["passed", "failed", "failed"]
    assert [test["name"] for test in result["tests"]] == ["affine_params", "quantize", "smallest_file"]
    assert result["execution_time"] == 1


def test_the_output_teaches():
    outputs = [test["output"] for test in gradescope_result(record("bob", *MIXED))["tests"]]
    assert "Visible check: passed." in outputs[0]
    assert "Visible check: not passed. case 2" in outputs[1] and "Clip after adding." in outputs[1]
    assert "Visible check: did not run." in outputs[2] and "partly right" in outputs[2]


def test_no_text_is_rendered_as_html_and_stdout_stays_hidden():
    result = gradescope_result(hostile())
    assert result["stdout_visibility"] == "hidden"
    assert {result[key] for key in ("output_format", "test_output_format", "test_name_format")} == {"text"}
    assert all(test["output_format"] == test["name_format"] == "text" for test in result["tests"])


def test_a_file_that_could_not_be_read_says_why():
    nothing = {
        "student": "eve",
        "score": 0.0,
        "out_of": 10,
        "exercises": {},
        "notes": ["the file is a picture"],
    }
    assert "Note: the file is a picture" in gradescope_result(nothing)["output"]


def test_errors_in_cells_are_told_with_their_place():
    broken = record("ann", errors=[{"cell": 2, "line": 4, "exception": "NameError", "text": "no x"}])
    assert "(code cell 3, line 4): NameError: no x" in gradescope_result(broken)["output"]


@pytest.mark.parametrize("when", VISIBILITY)
def test_the_instructor_chooses_when_students_see_it(when):
    result = gradescope_result(record("ann"), visibility=when)
    assert {result["visibility"], *(test["visibility"] for test in result["tests"])} == {when}
    assert result["stdout_visibility"] == "hidden"


def test_another_word_for_when_is_refused():
    with pytest.raises(ValueError, match="after_published"):
        gradescope_result(record("ann"), visibility="later")
