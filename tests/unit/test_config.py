"""Composition, typing and validation of the configuration."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException
from tests.sentences import names

from ajet.config.compose import compose, compose_tree, load_play
from ajet.config.explain import explain, suggest_key
from ajet.config.fields import Rule
from ajet.config.model import resolve_model_path
from ajet.config.options import GROUPS, field_types, keys, options
from ajet.config.overview import overview
from ajet.config.root import Config, EvaluateConfig
from ajet.config.saved import load, save
from ajet.config.store import SCHEMAS, conf_dir, group_options, groups
from ajet.config.words import FILTERS, SYNONYMS, our_keys
from ajet.engine.vllm import VllmConfig
from ajet.errors import AjetError, ConfigError
from ajet.rollout.opponents.scripted import ScriptedPlayersConfig

SEER_AND_WITCH = ["workflow=werewolves", "trainable_targets=[seer,witch]"]
TINKER = ("hardware=tinker", "tinker.base_url=http://my-skyrl:8000")
OFF_POLICY = ("engine=vllm_server", "rollout.max_steps_off_policy=1", "algorithm.num_minibatches=1")


def composed(checkpoint: Path, *overrides: str) -> Config:
    """A config of the seer and the witch on a checkpoint that exists."""
    model = [] if any(item.startswith("model") for item in overrides) else [f"model.path={checkpoint}"]
    return compose([*SEER_AND_WITCH, *model, *overrides], run_dir="outputs/here")


def refusal(checkpoint: Path, *overrides: str) -> str:
    """The one line that a user would read."""
    with pytest.raises((AjetError, HydraException, OmegaConfBaseException)) as caught:
        composed(checkpoint, *overrides)
    message = explain(caught.value, Config, overrides)
    assert "\n" not in message
    return message


def test_the_main_job_composes_into_plain_dataclasses(checkpoint: Path) -> None:
    config = composed(checkpoint)
    assert config.trainable_targets == ["seer", "witch"]
    assert config.workflow.entry == "werewolves"
    assert (config.engine.name, config.opponent.name, config.algorithm.loss) == ("vllm", "scripted", "clip")
    assert type(config.workflow.params) is dict
    assert type(config.workflow.target_tags) is list
    assert config.run_dir == str(Path("outputs/here").absolute())


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group in groups() for option in group_options(group)]
)
def test_every_option_of_every_group_gives_a_valid_config(group: str, option: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    needs = {
        "workflow=custom": ["workflow.entry=ajet.workflows.signals.workflow:Signals"],
        "opponent=openai": ["opponent.base_url=http://localhost:1/v1", "opponent.model=any"],
        "opponent=workflow": ["workflow.has_own_models=true"],
        **{f"engine={name}": ["hardware=gpu_1"] for name in ("vllm_gpu", "vllm_server_gpu")},
        "model=hub": ["hardware=gpu_1"],
        **{
            f"judge={name}": ["data=python", "data.path=package.module:tasks"]
            for name in ("exact_match", "contains", "boxed_math")
        },
        "credit=hierarchical": ["credit.proposers=[seer]", "credit.solvers=[witch]"],
        "algorithm=kl_cov": ["algorithm.num_epochs=2"],
        "judge=python": ["judge.entry=package.module:Class"],
        "judge=llm": ["judge.base_url=http://localhost:1/v1", "judge.model=any"],
    }
    chosen = f"{group}={option}"
    if group == "data" and option != "seeds":
        needs[chosen] = [f"data.path={checkpoint / 'config.json'}"]
    job = {"workflow": ["trainable_targets=[seer]"], "experiment": []}.get(group, SEER_AND_WITCH)
    if group == "workflow" and option != "werewolves":
        job = []
    config = compose([*job, chosen, f"model.path={checkpoint}", *needs.get(chosen, [])], run_dir=tmp_path)
    assert overview(config)[0].startswith("workflow")


def test_keys_that_other_peoples_scripts_rely_on_exist(checkpoint: Path) -> None:
    promised = """workflow.entry trainable_targets seed total_steps resume run_dir model.path model.lora
        engine.name opponent.name rollout.num_tasks rollout.group_size rollout.concurrency
        rollout.timeout_s rollout.max_retries rollout.temperature rollout.max_tokens algorithm.loss
        algorithm.advantage algorithm.learning_rate eval.every eval.num_tasks checkpoint.every checkpoint.keep
        logger.wandb.mode"""
    config = composed(checkpoint)
    for key in promised.split():
        node: Any = config
        for part in key.split("."):
            assert part in {spec.name for spec in fields(node)}, key
            node = getattr(node, part)


def test_every_field_of_the_schema_is_documented() -> None:
    folder = conf_dir().parent / "src" / "ajet"
    source = "\n".join(path.read_text() for path in sorted(folder.rglob("*.py")))
    undocumented = []
    pending: list[Any] = [*SCHEMAS.values(), *(kind for group in GROUPS for kind in options(group).values())]
    while pending:
        schema = pending.pop()
        hints = get_type_hints(schema)
        for spec in fields(schema):
            is_name = spec.name in ("name", "reader") and schema.__base__ is not object
            if spec.name not in schema.__annotations__ or is_name:
                continue  # inherited, and documented there
            pending += [hints[spec.name]] if is_dataclass(hints[spec.name]) else []
            declaration = re.split(rf"class {schema.__name__}(?:\(\w+\))?:", source)[1].partition("\nclass ")[0]
            after = declaration.partition(f"\n    {spec.name}: ")[2].partition("\n")[2]
            is_group = is_dataclass(hints[spec.name])
            if not is_group and not after.lstrip().startswith('"""'):
                undocumented.append(f"{schema.__name__}.{spec.name}")
    assert undocumented == []


def test_yaml_files_name_only_keys_that_the_schema_has() -> None:
    for group in ("algorithm", "engine", "rollout", "opponent", "eval", "logger"):
        known = {"defaults", *field_types(get_type_hints(Config)[group])}
        for path in (conf_dir() / group).glob("*.yaml"):
            text = path.read_text()
            of_all = {"defaults", *get_type_hints(Config)} if text.startswith("# @package _global_") else known
            assert set(yaml.safe_load(text) or {}) <= of_all, path


def test_parameters_of_workflow_and_opponent_are_free_mappings(checkpoint: Path) -> None:
    config = composed(checkpoint, "++workflow.params.day_limit=3", "++opponent.params.accuracy=0.5")
    assert config.workflow.params == {"day_limit": 3}
    assert isinstance(config.opponent, ScriptedPlayersConfig) and config.opponent.params == {"accuracy": 0.5}


def test_hardware_picks_an_engine_unless_the_command_line_does(checkpoint: Path) -> None:
    gpu = composed(checkpoint, "hardware=gpu_1")
    assert isinstance(gpu.engine, VllmConfig)
    assert (gpu.engine.kv_cache_gib, gpu.engine.gpu_memory_utilization) == (None, 0.4)
    assert composed(checkpoint, "hardware=gpu_1", "engine=transformers").engine.name == "transformers"


def test_a_model_preset_picks_hardware_that_fits_it(checkpoint: Path) -> None:
    config = composed(checkpoint, "model=qwen3_8b")
    assert (config.hardware.device, config.model.lora.rank, config.engine.name) == ("cuda", 32, "vllm")
    on_cpu = composed(checkpoint, "model=qwen3_0_6b", "model.dtype=float32", "hardware=cpu").engine
    assert isinstance(on_cpu, VllmConfig) and on_cpu.kv_cache_gib == 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trainable_targets=[]"], "trainable_targets=[] ... werewolf, villager, seer, witch, hunter"),
        (["trainable_targets=[sear]"], "trainable_targets ... sear ... werewolf, villager, seer, witch, hunter"),
        (["trainable_targets=[seer,seer]"], "trainable_targets=[seer,seer] ... twice"),
        (
            ["trainable_targets=[seer,werewolf]"],
            "trainable_targets=[seer,werewolf] ... [werewolf] ... [villager,seer,witch,hunter]",
        ),
        (["trainable_targets=null"], "trainable_targets=null ... [werewolf] ... [villager,seer,witch,hunter]"),
        (["trainable_targets=seer"], "trainable_targets ... [a,b] ... seer"),
        (["trainable_targets=[seer"], "trainable_targets=[seer ... brackets"),
        (
            ["workflow=chess"],
            "workflow=chess ... countdown, custom, debate, frozenlake, guess_number, hints, math, signals",
        ),
        (
            ["workflow=custom", "workflow.entry=foo"],
            "workflow.entry=foo ... countdown, debate, frozenlake, guess_number",
        ),
        (["workflow=custom", "workflow.entry='no.py->Game'"], "workflow.entry=no.py->Game ... no.py"),
        (["model=huge"], "model=huge ... hub, qwen3_0_6b"),
        (["engine=null"], "engine=null ... scripted, tinker, transformers, vllm, vllm_gpu"),
        (["rollout=[1]"], "rollout=[1] ... default"),
        (["rollout.grup_size=2"], "rollout.grup_size ... group_size"),
        (["+rollout.extra=2"], "rollout.extra ... concurrency, grammar"),
        (["wrkflow=signals"], "wrkflow ... did you mean workflow"),
        (["lr=1e-3"], "lr ... algorithm.learning_rate ... algorithm, checkpoint"),
        (["algorithm.beta=0.1"], "algorithm.beta ... algorithm.kl_coef ... advantage, advantage_args"),
        (["num_generations=8"], "num_generations ... rollout.group_size"),
        (["actor_rollout_ref.rollout.n=8"], "actor_rollout_ref.rollout.n ... rollout.group_size"),
        (["num_seed=3"], "num_seed ... eval.num_tasks ... seed"),
        (["eval.num_seed=3"], "eval.num_seed ... eval.num_tasks ... confidence, every, first"),
        (["model.name=x"], "model.name ... model.path"),
        (["group_size=4"], "group_size ... rollout.group_size"),
        (["+trainer.max_steps=4"], "trainer.max_steps ... did you mean total_steps"),
        (["top_p=0.9"], "top_p ... rollout.temperature"),
        (["rollout.top_k=50"], "rollout.top_k ... rollout.temperature ... concurrency, grammar"),
        (["seed"], "seed ... key=value"),
        (["seed=1,2"], "seed=1,2 ... seed=[1,2] ... -m"),
        (["seed=-1"], "seed ... 0 ... -1"),
        (["seed=one"], "seed ... whole number ... one"),
        (["total_steps=0"], "total_steps ... 1 ... 0"),
        (["rollout.group_size=-3"], "rollout.group_size ... 2 ... -3"),
        (["rollout.group_size=null"], "rollout.group_size ... whole number ... null"),
        (["rollout.temperature=nan"], "rollout.temperature ... finite ... nan"),
        (["rollout.timeout_s=-1"], "rollout.timeout_s ... 0 ... -1.0"),
        (["rollout.max_tokens=4096"], "rollout.max_tokens=4096 ... model.max_context=4096"),
        (["algorithm.loss=ppo"], "algorithm.loss ... clip ... path/file.py->name ... ppo"),
        (["algorithm.aggregation=mean"], "algorithm.aggregation ... dapo, dr_grpo, grpo ... mean"),
        (["algorithm.num_minibatches=3"], "algorithm.num_minibatches=3 ... rollout.num_tasks=8 ... 1, 2, 4, 8"),
        (["workflow.num_train_tasks=4"], "rollout.num_tasks=8 ... workflow.num_train_tasks=4"),
        (
            ["algorithm.dr_grpo_max_length=9"],
            "algorithm.dr_grpo_max_length ... algorithm.aggregation=grpo ... algorithm.aggregation=dr_grpo",
        ),
        (["algorithm.aggregation=dr_grpo"], "algorithm.aggregation=dr_grpo ... algorithm.dr_grpo_max_length"),
        (["algorithm.loss=dual_clip"], "algorithm.loss=dual_clip ... algorithm.loss_args.delta"),
        (
            ["algorithm.loss=dual_clip", "++algorithm.loss_args.delta=1.1"],
            "algorithm.loss_args.delta=1.1 ... 1.2 ... algorithm.clip_high",
        ),
        (
            ["algorithm.loss=reinforce", "algorithm.clip_low=0.1"],
            "algorithm.clip_low=0.1 ... algorithm.loss=reinforce ... algorithm.loss=clip",
        ),
        (["++algorithm.loss_args.beta=2"], "algorithm.loss_args.beta ... algorithm.loss=clip"),
        (['algorithm.loss="nowhere.py->gspo"'], "algorithm.loss=nowhere.py->gspo ... no file nowhere.py"),
        (['algorithm.loss="nowhere.at_all:gspo"'], "algorithm.loss=nowhere.at_all:gspo ... no module nowhere.at_all"),
        (['algorithm.advantage="json:no_such"'], "algorithm.advantage=json:no_such ... no_such ... JSONDecoder"),
        (["algorithm.mis_low=2", "algorithm.mis_high=2"], "algorithm.mis_low=2.0 ... algorithm.mis_high=2.0"),
        (["total_steps=2"], "algorithm.warmup_steps=2 ... total_steps=2 ... 1"),
        (
            ["credit=per_task", "trainable_targets=[seer]"],
            "credit=per_task ... seer ... credit=per_tag",
        ),
        (["rollout.temperature=0.001"], "rollout.temperature=0.001 ... engine=vllm ... 0.01"),
        (["algorithm.learning_rate=3"], "algorithm.learning_rate ... 0 ... 1 ... 3.0"),
        (["algorithm.tis_cap=3", "algorithm.mis_high=2"], "algorithm.tis_cap=3.0 ... algorithm.mis_high=2.0"),
        (["algorithm.tis_floor=2", "algorithm.tis_cap=1"], "algorithm.tis_floor=2.0 ... algorithm.tis_cap=1.0"),
        (
            ["algorithm.correction_level=none", "algorithm.tis_cap=1"],
            "algorithm.tis_cap=1.0 ... algorithm.correction_level=none",
        ),
        (
            ["algorithm.top_entropy_quantile=0.2", "algorithm.min_entropy=0.1"],
            "algorithm.top_entropy_quantile=0.2 ... algorithm.min_entropy=0.1",
        ),
        (
            ["algorithm.kl_cov_share=0.1", "algorithm.num_minibatches=1"],
            "algorithm.kl_cov_share=0.1 ... num_minibatches",
        ),
        (
            [*OFF_POLICY, "algorithm.loss=reinforce", "algorithm.correction_level=none"],
            "rollout.max_steps_off_policy=1 ... algorithm.correction_level=none ... algorithm.loss=reinforce ... clip",
        ),
        (
            ["algorithm.off_policy_threshold=0.5", "algorithm.num_minibatches=1"],
            "algorithm.off_policy_threshold=0.5 ... num_minibatches ... num_epochs ... rollout.max_steps_off_policy",
        ),
        (
            ["algorithm.kl_coef=0.1", "algorithm.ref_sync_every=5", "total_steps=5"],
            "algorithm.ref_sync_every=5 ... total_steps=5 ... to 0 ... total_steps",
        ),
        (["algorithm.kl_cov_coef=2"], "algorithm.kl_cov_coef=2 ... algorithm.kl_cov_share=0"),
        (["algorithm.correction_level=sequence"], "algorithm.correction_level=sequence ... algorithm.mis_high"),
        (["algorithm=vespo", "algorithm.tis_cap=2"], "algorithm.tis_cap=2.0 ... algorithm.loss=vespo"),
        (["algorithm.tis_cap=2", "algorithm.mis_low=2"], "algorithm.mis_low=2.0 ... algorithm.tis_cap=2.0"),
        (["algorithm.format_penalty=inf"], "algorithm.format_penalty ... finite ... inf"),
        (["rollout.policy_error_reward=nan"], "rollout.policy_error_reward ... finite ... nan"),
        (["++opponent.params.insight=-inf"], "opponent.params.insight ... finite ... -inf"),
        (["++own.mine.deep=[{a:nan}]"], "own.mine.deep.0.a ... finite ... nan"),
        (["algorithm.kl_schedule=linear"], "algorithm.kl_schedule=linear ... algorithm.kl_coef=0"),
        (
            ["engine.gpu_memory_utilization=0.5"],
            "engine.gpu_memory_utilization ... hardware.device=cpu ... hardware=gpu_1",
        ),
        (["engine=scripted", "engine.kv_cache_gib=1"], "engine.kv_cache_gib ... engine=scripted ... engine=vllm"),
        (["hardware=gpu_1", "engine=vllm"], "engine.kv_cache_gib ... hardware.device=cuda ... engine=vllm_gpu"),
        (["engine=transformers", "engine.block_size=16"], "engine.block_size ... engine=transformers ... engine=vllm"),
        (["engine=vllm", "engine.name=scripted"], "engine.name ... vllm ... scripted ... engine=scripted"),
        (["engine.name=nothing"], "engine=nothing ... scripted, tinker, transformers, vllm"),
        (["engine=transformers", "engine.max_batch=2"], "engine.max_batch ... max_concurrency, name"),
        (["model.path=nowhere"], "model.path=nowhere ... builtin:tiny|tiny_tasks"),
        (["model.path=builtin:huge"], "model.path=builtin:huge ... tiny, tiny_tasks"),
        (["model=hub"], "model.path ... missing"),
        (
            ["model=qwen3_0_6b", "hardware=cpu"],
            "model.dtype=bfloat16 ... hardware.mixed_precision=bf16 ... model.dtype=float32",
        ),
        (["hardware.attention=flex"], "hardware.attention=flex ... CPU ... hardware.attention=auto or dense"),
        (["hardware.attention=flash"], "hardware.attention ... auto, dense, flex"),
        (["model.lora.alpha=8"], "model.lora.alpha ... model.lora.rank=0"),
        (["model=qwen3_4b", "model.lora.rank=0", "model.lora.alpha=8"], "model.lora.alpha ... model.lora.rank=0"),
        (["hardware=tinker", "rollout.temperature=0.7"], "rollout.temperature=0.7 ... rollout.temperature=1"),
        (["hardware=tinker", "algorithm.entropy_coef=0.1"], "algorithm.entropy_coef ... entropy ... engine=tinker"),
        (["hardware=tinker", "algorithm.entropy_target=1"], "algorithm.entropy_target ... entropy ... to null"),
        (
            ["hardware=tinker", "algorithm.kl_coef=0.1", "algorithm.ref_sync_every=5"],
            "algorithm.ref_sync_every=5 ... adapters ... model.lora.rank=0",
        ),
        (["hardware=tinker", "algorithm.min_entropy=0.1"], "algorithm.min_entropy ... entropy ... engine=tinker"),
        (["hardware=tinker", "rollout.grammar=tools"], "rollout.grammar=tools ... engine=tinker ... transformers|vllm"),
        (["engine=vllm_server", "rollout.grammar=tools"], "grammar ... engine=vllm_server ... rollout.grammar=none"),
        (["engine=scripted", "rollout.grammar=tools"], "rollout.grammar=tools ... engine=scripted ... transformers"),
        (["rollout.grammar=json"], "rollout.grammar ... none, tools"),
        (["hardware=tinker", "model.lora.rank=0"], "engine=tinker ... adapters only ... model.lora.rank"),
        (["hardware=tinker", "model.lora.alpha=8"], "model.lora.alpha ... the server's to choose ... engine=tinker"),
        (
            ["hardware=tinker", "tinker.base_url=my-skyrl:8000"],
            "tinker.base_url=my-skyrl:8000 ... http://my-skyrl:8000",
        ),
        (
            [*TINKER, "judge=llm", "judge.model=m", "judge.base_url=http://my-skyrl:8000/v1"],
            "judge.base_url ... the Tinker server ... OpenAI's API ... judge=contains|exact_match|boxed_math|python",
        ),
        (
            [*TINKER, "opponent=openai", "opponent.model=m", "opponent.base_url=http://my-skyrl:8000/api/v1"],
            "opponent.base_url ... the Tinker server ... OpenAI's API ... opponent=frozen",
        ),
        (["hardware=tinker", "engine.episode_timeout_s=5"], "engine.episode_timeout_s ... rollout.timeout_s"),
        (["hardware=tinker", "engine.service.timeout_s=60"], "engine.service ... section tinker ... tinker.*"),
        (["tinker.base_url=http://my-skyrl:8000"], "tinker.* ... engine=vllm ... hardware=tinker"),
        (["hardware.offload_optimizer=true"], "hardware.offload_optimizer=true ... hardware.device=cuda"),
        (["opponent.base_url=http://x"], "opponent.base_url ... opponent=scripted ... opponent=openai"),
        (["opponent=openai"], "opponent=openai ... opponent.base_url"),
        (
            ["opponent=random", "++opponent.params.accuracy=1"],
            "opponent.params.accuracy ... opponent=random ... opponent=scripted",
        ),
        (
            ["opponent=workflow"],
            "opponent=workflow ... werewolf, villager, hunter ... opponent=frozen|openai|random|scripted",
        ),
        (
            ["workflow.scripted=false"],
            "opponent=scripted ... werewolf, villager, hunter ... opponent=frozen|openai|random",
        ),
        (["eval.seed_offset=1073741824"], "eval.seed_offset=1073741824 ... 2**30"),
        (
            ["logger.wandb.mode=disabled", "logger.wandb.name=x"],
            "logger.wandb.name ... logger.wandb.mode=disabled",
        ),
        (["rollout.num_tasks=${nothing}"], "rollout.num_tasks ... nothing"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_that_says_what_to_change(
    overrides: list[str], words: str, checkpoint: Path
) -> None:
    assert names(refusal(checkpoint, *overrides), words)


def test_other_libraries_words_lead_to_keys_that_exist() -> None:
    ours = set.union(*(set(keys(schema)) for schema in SCHEMAS.values()))
    synonyms = {key: words.split() for key, words in SYNONYMS.items()}
    assert set(synonyms) <= ours
    theirs = [word for words in synonyms.values() for word in words]
    assert not set(theirs) & ({*keys(Config)} | FILTERS), "a word that is ours needs no translation"
    assert all(len(words) == len(set(words)) for words in synonyms.values())
    assert all(word == word.lower() for word in theirs)
    for key, words in synonyms.items():
        for word in words:
            assert key in our_keys(word.upper().replace("_", "-"), ours.__contains__)


def test_a_word_is_translated_into_keys_of_the_entry_point_at_hand() -> None:
    assert suggest_key("num_seed", EvaluateConfig) == "did you mean num_tasks? "
    assert suggest_key("num_seed", Config) == "did you mean eval.num_tasks or seed? "
    assert suggest_key("gpu_memory", EvaluateConfig) == "did you mean engine.gpu_memory_utilization? "
    assert suggest_key("save_steps", EvaluateConfig) == ""


def test_a_missing_workflow_is_answered_with_the_choices() -> None:
    with pytest.raises(
        ConfigError, match=r"choose workflow=countdown\|custom\|debate\|frozenlake\|guess_number\|hints\|m"
    ):
        compose([], run_dir="x")


def test_what_goes_by_the_distance_to_the_sampler_is_taken_where_there_may_be_one(checkpoint: Path) -> None:
    masked = ("algorithm.off_policy_threshold=0.5", "algorithm.num_minibatches=1")
    for distant in (["algorithm.num_epochs=2"], OFF_POLICY, TINKER, ["hardware.mixed_precision=bf16"]):
        assert composed(checkpoint, *masked, *distant).algorithm.off_policy_threshold == 0.5
    assert composed(checkpoint, *OFF_POLICY, "algorithm.loss=reinforce").algorithm.tis_cap == 2


@pytest.mark.parametrize(("tags", "told"), [("seer", True), ("seer,witch", False)])
def test_a_team_of_one_role_is_told_that_it_may_be_none(tags: str, told: bool, checkpoint: Path) -> None:
    config = composed(checkpoint, f"trainable_targets=[{tags}]", "credit=shared")
    assert any("credit=per_tag" in line for line in overview(config)) is told


def test_a_key_variable_that_is_not_exported_is_refused(checkpoint: Path) -> None:
    openai = ["opponent=openai", "opponent.base_url=http://x", "opponent.model=m"]
    assert "export it" in refusal(checkpoint, *openai, "opponent.api_key_env=AJET_TEST_UNSET")


@pytest.mark.parametrize(
    ("rule", "good", "bad", "complaint"),
    [
        (Rule(at_least=1), 1, 0, "must be at least 1, not 0"),
        (Rule(above=0, below=1), 0.5, 1.0, "must be above 0 and below 1, not 1.0"),
        (Rule(above=0, at_most=1), 1, 1.5, "must be above 0 and at most 1, not 1.5"),
        (Rule(choices=("a", "b")), "b", "c", "must be one of a, b, not c"),
    ],
)
def test_a_rule_names_its_bounds(rule: Rule, good: object, bad: object, complaint: str) -> None:
    assert rule.complaint(good) is None
    assert rule.complaint(None) is None
    assert rule.complaint(bad) == complaint


def test_a_saved_config_is_read_back_equal(checkpoint: Path, tmp_path: Path) -> None:
    config = composed(checkpoint, "++workflow.params.day_limit=3")
    save(config, tmp_path / "config.yaml")
    assert load(tmp_path) == replace(config, run_dir=str(tmp_path))


def test_a_name_alone_chooses_the_option(checkpoint: Path) -> None:
    assert composed(checkpoint, "engine.name=transformers") == composed(checkpoint, "engine=transformers")


def test_a_directory_whose_groups_hold_the_settings_of_all_options_is_read(checkpoint: Path, tmp_path: Path) -> None:
    config = composed(checkpoint, "engine=transformers")
    written = asdict(config)
    written["engine"] |= {"kv_cache_gib": None, "block_size": None, "enforce_eager": None}
    written["opponent"] |= {"base_url": None, "model": None, "temperature": None}
    written["data"] |= {"path": None, "subset": None, "fields": {}, "content": None, "shuffle": True}
    written["judge"] |= {"given": "final_answer", "ignore_case": None, "own_thread": None, "rubric": None}
    written["judge"] |= {"reference": "answer", "max_score": 10.0, "timeout_s": 30.0, "max_retries": 2, "entry": None}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    assert load(tmp_path) == replace(config, run_dir=str(tmp_path))
    written["engine"]["block_size"] = 16
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    with pytest.raises(ConfigError, match=r"engine\.block_size.*engine=transformers"):
        load(tmp_path)


def test_a_resumed_run_keeps_its_config_and_takes_over_what_is_harmless(checkpoint: Path, tmp_path: Path) -> None:
    first = composed(checkpoint, "seed=7", "total_steps=4")
    save(first, tmp_path / "config.yaml")
    again = compose([f"resume={tmp_path}", "total_steps=9", "logger=plain"], run_dir=tmp_path)
    assert (again.seed, again.total_steps, again.trainable_targets) == (7, 9, ["seer", "witch"])
    assert (again.logger.console, again.run_dir, again.resume) == ("plain", str(tmp_path), str(tmp_path))
    assert again.model == first.model


def test_a_resumed_run_refuses_to_change_what_was_computed(checkpoint: Path, tmp_path: Path) -> None:
    save(composed(checkpoint), tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"rollout\.group_size.*logger.*total_steps"):
        compose([f"resume={tmp_path}", "rollout.group_size=4"], run_dir=tmp_path)
    with pytest.raises(ConfigError, match="is not a run directory"):
        compose([f"resume={tmp_path / 'nothing'}"], run_dir=tmp_path)


def test_a_model_path_is_a_directory_a_hub_id_or_an_error(checkpoint: Path, tmp_path: Path) -> None:
    assert resolve_model_path(str(checkpoint)) == str(checkpoint)
    assert resolve_model_path("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        resolve_model_path(str(tmp_path))


def test_local_paths_become_absolute_so_that_a_run_can_go_on_from_elsewhere(checkpoint: Path) -> None:
    (checkpoint / "game.py").write_text("class Game: ...")
    here = Path.cwd()
    away = Path(*[".."] * (len(here.parts) - 1))
    relative = away / checkpoint.relative_to(checkpoint.anchor)
    config = compose(
        [
            "workflow=custom",
            f"workflow.entry='{relative}/game.py->Game'",
            f"model.path={relative}",
        ],
        run_dir="x",
    )
    assert config.model.path == str(checkpoint.resolve())
    assert config.workflow.entry == f"{checkpoint.resolve()}/game.py->Game"


def test_the_plan_says_who_is_trained_against_whom_and_how_much(checkpoint: Path) -> None:
    lines = overview(composed(checkpoint, "opponent=frozen", "total_steps=5"))
    assert names(lines[0], "workflow ... werewolves ... seer, witch ... werewolf, villager, hunter ... frozen")
    assert names(lines[3], "rollout ... 5 steps ... 8 tasks ... 8 episodes ... 320 ... 64")
    assert len(lines) == 8 and names(lines[7], "note ... learning rate ... algorithm.learning_rate")


def test_the_plan_says_which_server_samples_and_trains(checkpoint: Path) -> None:
    lines = overview(composed(checkpoint, "hardware=tinker", "tinker.base_url=http://my-skyrl:8000"))
    assert names(lines[4], "engine ... tinker ... http://my-skyrl:8000 ... samples and trains")


def test_a_run_directory_stays_where_it_is_when_a_workflow_changes_the_directory_of_the_process() -> None:
    assert compose(["workflow=signals"], run_dir="rel").run_dir == str(Path("rel").absolute())


def test_a_presets_adapters_are_switched_off_by_their_rank(tmp_path: Path) -> None:
    config = compose(["workflow=signals", "model=qwen3_4b", "model.lora.rank=0"], run_dir=tmp_path)
    assert (config.model.lora.rank, config.model.lora.alpha, config.model.lora.targets) == (0, None, None)


def test_of_a_presets_adapters_a_server_is_told_the_rank_alone(tmp_path: Path) -> None:
    config = compose(["workflow=signals", "model=qwen3_4b", "hardware=tinker"], run_dir=tmp_path)
    assert (config.model.lora.rank, config.model.lora.alpha, config.model.lora.targets) == (32, None, None)


@pytest.mark.parametrize("chosen", [["model.lora.rank=0"], ["hardware=tinker"]])
def test_a_presets_adapters_give_way_in_play_as_in_training(chosen: list[str]) -> None:
    overrides = ["workflow=signals", "model=qwen3_4b", *chosen]
    tree = compose_tree(overrides, config_name="play")
    with open_dict(tree):
        del tree["hydra"]
    tree.run_dir = "outputs/here"
    assert load_play(tree, overrides).model.lora.alpha is None
