"""A report is one file that answers first, escapes what models wrote, and is there for unfinished runs too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.run_dirs import make_run

from ajet.analysis import load_run
from ajet.config.sweeps.records import JobRecord, SweepPlan, write_job, write_plan
from ajet.records import Call, Episode, EpisodeGroup, Task
from ajet.report.__main__ import main
from ajet.report.sections import seconds_by_phase
from ajet.report.writing import report_page
from ajet.tracking.store import TrajectoryStore

HOSTILE = "</pre><script>alert(1)</script>{{ 7 * 7 }}"


def game(task: str, *, success: bool) -> EpisodeGroup:
    call = Call(
        index=0,
        agent_name="P1",
        target_tag="seer",
        trained=True,
        messages=({"role": "user", "content": f"Speak. {HOSTILE}"},),
        reply=f"I say {HOSTILE}",
        prompt_ids=(1,),
        sampled_ids=(2,),
        logprobs=(-0.5,),
    )
    episode = Episode(
        task=Task(task_id=task),
        repeat=0,
        status="ok",
        rewards={"P1": float(success)},
        agent_tags={"P1": "seer"},
        calls=(call,),
        is_success=success,
    )
    return EpisodeGroup(task=episode.task, episodes=(episode,))


def evaluated_run(folder: Path, *overrides: str, seed: int = 0, num_won: int = 8) -> Path:
    """A finished run that lost all of ten held-out games before training and won the first `num_won` after it."""
    run = make_run(folder, *overrides, seed=seed)
    tasks = [f"eval-{i}" for i in range(10)]
    after = {task: float(i < num_won) for i, task in enumerate(tasks)}
    before = dict.fromkeys(tasks, 0.0)
    store = TrajectoryStore(run / "trajectories")
    store.write([game(task, success=False) for task in tasks], {}, step=0, split="eval")
    store.write([game(task, success=bool(won)) for task, won in after.items()], {}, step=2, split="eval")
    summary = {
        "num_steps": 2,
        "wall_time_s": {"rollout": 100.0, "update": 20.0},
        "before": {"scores": before, "rewards": {"seer": before}},
        "after": {"scores": after, "rewards": {"seer": after}},
    }
    (run / "summary.json").write_text(json.dumps(summary))
    provenance = {"commit": "0123456789abcdef", "uncommitted_changes": True, "versions": {"torch": "2.13.0"}}
    (run / "provenance.json").write_text(json.dumps([provenance]))
    (run / ".hydra").mkdir()
    (run / ".hydra" / "overrides.yaml").write_text("- workflow=werewolves\n- seed=0\n")
    return run


class Elements(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def report(folder: Path) -> Elements:
    assert main([str(folder)]) == 0
    return Elements((folder / "report.html").read_text())


def test_the_answer_comes_first_with_its_interval(tmp_path: Path) -> None:
    page = report_page(evaluated_run(tmp_path / "run"))
    # Eight of ten pairs rose by 1; with a gain and a loss besides 2/3 +- t(.975, 9) * sqrt((10 - 12 * 4/9) / 11 / 12).
    assert page.lead[0].startswith(
        "seer: training raised the held-out score by +0.800, from 0.000 to 0.800 "
        "(interval [+0.241, +1.000]; 10 tasks, 1 run; p 0.006)."
    )
    assert "another seed" in page.lead[1]
    text = report(tmp_path / "run").text
    assert text.index("seer: training raised") < text.index("Learning curves") < text.index("What was run")


def test_how_far_the_plan_was_off_is_one_line(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path / "run")
    assert "were planned" not in report(run).text
    summary = json.loads((run / "summary.json").read_text())
    planned = {"planned_gib": 4.0, "measured_gib": 4.4, "largest_pack": 961}
    (run / "summary.json").write_text(json.dumps(summary | planned))
    assert "Memory: 4.4 GiB at most, where 4.0 were planned" in report(run).text


def test_a_metric_that_left_its_sane_range_is_told_with_its_step_and_what_it_means(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path / "run")
    policy = next(section for section in report_page(run).sections if section.title == "Policy")
    assert policy.table is None and "No metric left its sane range" in policy.notes[0]
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "policy/seer/mismatch_kl": 0.25}\n')
    policy = next(section for section in report_page(run).sections if section.title == "Policy")
    assert policy.table is not None
    ((_, step, metric, value, meaning),) = policy.table.rows
    assert (step, metric, value) == ("2", "policy/seer/mismatch_kl", "0.250")
    assert "algorithm.tis_cap" in str(meaning)


def test_a_difference_that_is_not_shown_says_what_it_would_take(tmp_path: Path) -> None:
    lead = report_page(evaluated_run(tmp_path / "run", num_won=1)).lead[0]
    assert lead.startswith("seer: no difference is shown: +0.100, from 0.000 to 0.100")
    assert re.search(r"To find one of this size would take about \d+ held-out tasks\.", lead)


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    page = report(evaluated_run(tmp_path / "run"))
    assert not {"script", "link", "iframe"} & set(page.tags)
    linked = [value or "" for name, value in page.attributes if name in ("src", "href")]
    assert linked and all(value.startswith(("data:", "#")) for value in linked)
    targets = {value for name, value in page.attributes if name == "id"}
    assert {value[1:] for value in linked if value.startswith("#")} <= targets


def test_what_a_model_wrote_is_shown_as_it_wrote_it_and_never_run(tmp_path: Path) -> None:
    page = report(evaluated_run(tmp_path / "run"))
    assert "script" not in page.tags and f"I say {HOSTILE}" in page.text


def test_a_report_tells_origin_time_tokens_and_failures(tmp_path: Path) -> None:
    text = report(evaluated_run(tmp_path / "run")).text
    for found in (
        "0123456789ab with uncommitted changes",
        "workflow=werewolves seed=0",
        "2\u00a0min\u00a000\u00a0s",
        "torch 2.13.0",
    ):
        assert found in text
    assert "Held-out score per 1,000 sampled tokens at step 2: 800.000" in text and "Nothing failed." in text


def test_a_report_leads_into_every_episode(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path / "run")
    assert f"python -m ajet.view {run}" in report(run).text


def test_the_same_run_gives_the_same_file(tmp_path: Path) -> None:
    folder = evaluated_run(tmp_path / "run")
    report(folder)
    first = (folder / "report.html").read_bytes()
    report(folder)
    assert (folder / "report.html").read_bytes() == first


def test_a_run_that_goes_on_or_crashed_at_once_has_a_report(tmp_path: Path) -> None:
    going = make_run(tmp_path / "going", num_steps=1, finished=False)
    assert "1 of 2 steps are logged." in report_page(going).lead[0]
    crashed = make_run(tmp_path / "crashed", num_steps=0, finished=False)
    assert "0 of 2 steps are logged." in report(crashed).text


def test_a_sweep_is_answered_by_condition_with_a_table_of_its_jobs(tmp_path: Path) -> None:
    jobs = {("seer", 1): 9, ("seer", 2): 8, ("seer", 3): 9, ("witch", 1): 1}
    for job, ((tag, seed), num_won) in enumerate(jobs.items()):
        evaluated_run(tmp_path / str(job), f"trainable_targets=[{tag}]", seed=seed, num_won=num_won)
    make_run(tmp_path / "4", "trainable_targets=[hunter]", num_steps=1, finished=False)
    lead = report_page(tmp_path).lead
    assert lead[0].startswith("seer: training raised the held-out score by +0.867") and "3 runs" in lead[0]
    assert lead[1].startswith("witch: no difference is shown")
    assert lead[2:] == [
        "Nothing to compare yet: hunter.",
        "From a single training run, so that another seed may give another answer: witch.",
    ]
    text = report(tmp_path).text
    assert "4 finished, 1 unfinished." in text and "1\u00a0/\u00a02" in text
    # Both have a run of seed 1 alone: it won nine of ten tasks with the seer, one with the witch.
    (contrast,) = next(section.table.rows for section in report_page(tmp_path).sections[1:2] if section.table)
    assert contrast[0] == "witch over seer" and str(contrast[1]).startswith("-0.800") and contrast[-1] == "1"


def test_jobs_of_a_sweep_are_told_of_before_they_start_and_when_they_failed(tmp_path: Path) -> None:
    choices = [{"trainable_targets": targets, "seed": "1"} for targets in ("[seer]", "[witch]", "[seer,witch]")]
    overrides = [[f"{key}={value}" for key, value in choice.items()] for choice in choices]
    plan = SweepPlan(
        config_name="train", directory="/", arguments=[], axes=["trainable_targets", "seed"], jobs=overrides
    )
    write_plan(tmp_path, plan)
    evaluated_run(tmp_path / "0", "trainable_targets=[seer]", seed=1)
    make_run(tmp_path / "1", "trainable_targets=[witch]", seed=1, num_steps=0, finished=False)
    for number, (state, error) in enumerate([("finished", None), ("failed", f"no room {HOSTILE}")]):
        job = JobRecord(
            number=number, overrides=overrides[number], choices=choices[number], state=state, error=error, attempts=1
        )
        write_job(tmp_path / str(number), job)
    section = next(section for section in report_page(tmp_path).sections if section.title == "Jobs")
    assert section.table is not None
    assert [row[:3] for row in section.table.rows] == [
        ("0", "finished", "seer"),
        ("1", "failed", "witch"),
        ("2", "pending", "seer+witch"),
    ]
    assert section.notes[1] == f"Job 1 (trainable_targets=[witch] seed=1) failed: no room {HOSTILE}"
    assert "script" not in report(tmp_path).tags


def test_a_sweep_none_of_whose_jobs_has_started_shows_what_it_means_to_run(tmp_path: Path) -> None:
    plan = SweepPlan(config_name="train", directory="/", arguments=[], axes=["seed"], jobs=[["seed=1"], ["seed=2"]])
    write_plan(tmp_path, plan)
    page = report_page(tmp_path)
    assert page.lead == ["No answer yet: no job has started yet."]
    (jobs,) = page.sections
    assert jobs.table is not None and [row[:3] for row in jobs.table.rows] == [
        ("0", "pending", "1"),
        ("1", "pending", "2"),
    ]
    assert "2 pending." in report(tmp_path).text


def test_a_sweep_leads_to_the_reports_and_episodes_of_its_jobs_and_states_once_what_they_share(tmp_path: Path) -> None:
    for job, tag in enumerate(("seer", "witch")):
        evaluated_run(tmp_path / "sweep" / str(job), f"trainable_targets=[{tag}]")
    report(tmp_path / "sweep" / "1")
    assert main([str(tmp_path / "sweep"), "--out", str(tmp_path / "page.html")]) == 0
    page = Elements((tmp_path / "page.html").read_text())
    assert [value for name, value in page.attributes if name == "href" and value and value[0] != "#"] == [
        "sweep/1/report.html"
    ]
    assert f"python -m ajet.view {tmp_path / 'sweep' / '0'}" in page.text
    assert page.text.count("workflow=werewolves seed=0") == 1 and "witch: eval-0: went better" in page.text
    anchors = [value for name, value in page.attributes if name == "id"]
    assert len(set(anchors)) == len(anchors) == 4


def test_pairs_of_conditions_are_not_listed_where_there_are_too_many_to_correct_for(tmp_path: Path) -> None:
    for job in range(7):
        evaluated_run(tmp_path / str(job), f"rollout.group_size={2 + job}")
    section = report_page(tmp_path).sections[1]
    assert section.table is None and section.notes[0].startswith("21 pairs are too many")


def test_what_is_no_run_directory_is_one_line_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_shows_the_page_on_a_narrow_screen_without_scrolling_sideways(tmp_path: Path) -> None:
    folder = evaluated_run(tmp_path / "run")
    report(folder)
    # The page itself may run no script: it is measured from outside, in a frame as wide as a phone.
    probe = tmp_path / "probe.html"
    probe.write_text(
        '<iframe src="run/report.html" width="360" height="800"></iframe><p id="width"></p><script>'
        "onload = () => { const page = frames[0].document.documentElement;"
        "document.getElementById('width').textContent = page.scrollWidth + ' of ' + page.clientWidth; }</script>"
    )
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    command = ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", probe.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    widths = re.search(r"(\d+) of (\d+)</p>", shown.stdout)
    assert widths is not None, shown.stderr
    assert int(widths[1]) <= int(widths[2])


def test_play_beside_another_phase_is_counted_once_in_the_time_of_a_run_without_a_summary(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    more = {"time/rollout": 5.0, "time/update": 4.0, "time/overlap": 3.0, "time/step": 6.0}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line | more) + "\n" for line in lines))
    assert seconds_by_phase(load_run(folder)) == {"rollout": 4.0, "update": 8.0}


def test_reporting_loads_no_torch(tmp_path: Path) -> None:
    folder = evaluated_run(tmp_path / "run")
    code = f"import sys; from ajet.report.__main__ import main; main([{str(folder)!r}]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("False\n"), done.stderr
    assert load_run(folder).state == "finished"
