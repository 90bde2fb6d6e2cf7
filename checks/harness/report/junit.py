"""The results as JUnit's XML, as `--junitxml` writes them: made from verdicts, so that a run cannot write its own."""

from __future__ import annotations

from xml.etree import ElementTree

from checks.harness.report.results import Checkpoint, Run

TAG = {
    "failed": "failure", "not_started": "failure", "locked": "skipped",
    "lab_error": "error", "inconclusive": "error", "not_run": "error",
}  # fmt: skip
"""No verdict is an error, *locked* a failure where nothing passed: what was not judged must not look green."""


def junit(run: Run) -> str:
    """One test case per checkpoint, with the properties `checkpoint`, `points` and `verdict`."""
    suites = ElementTree.Element("testsuites")
    for exercise in run.exercises:
        tags = [_tag(checkpoint, run) for checkpoint in exercise.checkpoints]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=f"Exercise {exercise.number} - {exercise.title}",
            tests=str(len(tags)),
            failures=str(tags.count("failure")),
            errors=str(tags.count("error")),
            skipped=str(tags.count("skipped")),
            time=f"{sum(c.seconds for c in exercise.checkpoints):.3f}",
            timestamp=run.started,
        )
        for checkpoint, tag in zip(exercise.checkpoints, tags, strict=True):
            name, seconds = f"{checkpoint.id} {checkpoint.title}", f"{checkpoint.seconds:.3f}"
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"checks.test_ex{exercise.number}", name=name, time=seconds
            )
            properties = ElementTree.SubElement(case, "properties")
            for key in ("id", "points", "verdict"):
                said = {"name": "checkpoint" if key == "id" else key, "value": str(getattr(checkpoint, key))}
                ElementTree.SubElement(properties, "property", said)
            if tag:
                words = ElementTree.SubElement(case, tag, message=(checkpoint.seen or checkpoint.verdict))
                words.text = f"{checkpoint.message}\n{checkpoint.where or ''}".strip()
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _tag(checkpoint: Checkpoint, run: Run) -> str:
    if checkpoint.verdict == "locked" and not any(c.verdict == "passed" for c in run.checkpoints):
        return "failure"
    return TAG.get(checkpoint.verdict, "")
