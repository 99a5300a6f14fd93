import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_run_that_is_killed_again_and_again_ends_with_the_artifacts_of_an_uninterrupted_one(tmp_path) -> None:
    driver = Path(__file__).parent / "resume_driver.py"
    done = subprocess.run([sys.executable, str(driver), str(tmp_path), "1"], capture_output=True, text=True)
    logs = "\n".join(path.read_text()[-2000:] for path in tmp_path.glob("*.log"))
    assert done.returncode == 0, done.stderr + logs
    outcome = json.loads(done.stdout)
    assert outcome["whole"] == 0, logs
    assert {
        "iteration-1/samples.jsonl",
        "iteration-1/policy/model/model.safetensors",
        "values-trained/trajectories.jsonl",
    } <= set(outcome["files"])
    for result in outcome["results"]:
        assert result["final"] == 0, logs
        assert sum(result["killed"]) >= 2, "the kills came too late to interrupt anything"
        assert result["different"] == [], logs
