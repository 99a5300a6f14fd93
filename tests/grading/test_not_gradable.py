"""A problem whose packages are missing is named with what installs them, and is in no denominator."""

import json
from pathlib import Path

import pytest

from restrl.cli import main
from restrl.errors import NotGradable
from restrl.grading.config import GradingConfig
from restrl.grading.packages import DISTRIBUTIONS, REQUIREMENTS, install_command, listed
from restrl.grading.registry import judge_for
from restrl.problems.jsonl import write_problems
from restrl.types import Case, Problem, Tests

PACKAGES = ("no_such_package_a", "os.path", "numpy.linalg", "no_such_package_b")


def problem(name: str, packages: tuple[str, ...] = ()) -> Problem:
    tests = Tests("call", (Case("t", (1,), expected=1),), packages=packages)
    return Problem(name, f"Do {name}.", "def f(x):\n", "f", tests)


def test_the_message_names_the_packages_and_the_command() -> None:
    with pytest.raises(NotGradable) as caught:
        judge_for(problem("p", PACKAGES), GradingConfig())
    assert str(caught.value) == (
        "problem p is not gradable: needs no_such_package_a, no_such_package_b; "
        "pip install no-such-package-a no-such-package-b"
    )
    assert caught.value.packages == ("no_such_package_a", "no_such_package_b")


def test_grading_samples_leaves_them_out_of_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_problems(tmp_path / "p.jsonl", [problem("a"), problem("absent", PACKAGES), problem("b")])
    samples = [
        {"task_id": name, "completion": f"    return {value}\n"}
        for name, value in (("a", "x"), ("absent", "x"), ("b", "0"), ("absent", "0"))
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    argv = ["grade", "--problems", str(tmp_path / "p.jsonl"), "--samples", str(tmp_path / "s.jsonl"), "--quiet"]
    argv += ["--out", str(tmp_path / "out.jsonl")]
    for _ in range(2):  # the second time resumes
        assert main([*argv, "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        assert (summary["samples"], summary["problems"], summary["passed"], summary["mean_reward"]) == (2, 2, 1, 0.5)
        assert list(summary["not_gradable"]) == ["absent"]
        records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [record["reward"] for record in records] == [1.0, None, 0.0, None]
        assert [record["problem_id"] for record in records] == ["a", "absent", "b", "absent"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "2 samples of 2 problems: 1 pass" in out
    assert "2 samples of 1 problems are not graded and count in nothing" in out
    assert "needs no_such_package_a, no_such_package_b; pip install" in out


def test_many_packages_of_a_benchmark_come_from_its_file() -> None:
    few = install_command(["sklearn", "bs4"], "/usr/bin/python3.10")
    assert few == "/usr/bin/python3.10 -m pip install beautifulsoup4 scikit-learn"
    many = ["sklearn", "bs4", "flask", "flask_mail", "Crypto", "cv2"]
    file = REQUIREMENTS / "bigcodebench.txt"
    assert install_command(many, "lab/bin/python") == f"lab/bin/python -m pip install -r {file}"
    # Its versions are not those of this environment.
    command = install_command(many)
    assert command.startswith("python3.11 -m venv lab; ") and f"lab/bin/pip install -r {file};" in command
    assert install_command(["a", "b", "c", "d", "sklearn"]) == "pip install a b c d scikit-learn"


@pytest.mark.parametrize("file", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda file: file.stem)
def test_requirements_files_are_sorted_and_plain(file: Path) -> None:
    names = listed(file)
    assert names == sorted(set(names)) and all(name == name.lower() and " " not in name for name in names)
    assert not set(names) & {name.lower() for name, other in DISTRIBUTIONS.items() if other != name.lower()}


@pytest.mark.benchmarks
@pytest.mark.parametrize("name", ["bigcodebench/hard", "bigcodebench/sample", "ds1000"])
def test_the_files_cover_the_benchmarks(name: str) -> None:
    import os

    if not os.environ.get("RESTRL_BENCHMARKS"):
        pytest.skip("no benchmark data: RESTRL_BENCHMARKS is not set")
    from restrl.grading.places import third_party
    from restrl.problems import load_problems

    needed = {package for item in load_problems(name) for package in third_party(item.tests.packages)}
    file = REQUIREMENTS / f"{name.partition('/')[0]}.txt"
    assert {DISTRIBUTIONS.get(package, package.replace("_", "-")) for package in needed} <= set(listed(file))
