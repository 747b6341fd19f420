"""Every name that `metrics.jsonl` may hold, with its unit and meaning: the one place that explains them.

Functions elsewhere measure; this table says what their numbers mean, and `docs/reference/metrics.md` is made from it. A
test reads the source and the metrics of real runs, and fails on a name that is missing here.
"""

from __future__ import annotations

from dataclasses import dataclass

from ajet.tracking.files.patterns import matches

EVAL = "eval/"
"""What names measured on held-out tasks begin with."""
_PLACEHOLDERS = {"<tag>": "[^/]+", "<name>": ".+", "<k>": "[0-9]+", "<phase>": "[a-z]+"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricName:
    """One name, or a family of names with a placeholder: `<tag>` a target_tag, `<name>` the workflow's word.

    Example: `MetricName(pattern="reward/<tag>/mean", unit="reward", meaning="…").matches("reward/seer/mean")`.
    """

    pattern: str
    unit: str
    meaning: str
    """One or more sentences, Markdown."""
    held_out: bool = False
    """Whether evaluations log it, too, as `eval/<pattern>`."""

    def matches(self, name: str) -> bool:
        """Whether a logged name is one of these."""
        if name.startswith(EVAL):
            if not self.held_out:
                return False
            name = name.removeprefix(EVAL)
        return matches(self.pattern, name, _PLACEHOLDERS)


def _of_play(pattern: str, unit: str, meaning: str) -> MetricName:
    return MetricName(pattern=pattern, unit=unit, meaning=meaning, held_out=True)


def _of_training(pattern: str, unit: str, meaning: str) -> MetricName:
    return MetricName(pattern=pattern, unit=unit, meaning=meaning)


METRIC_NAMES: tuple[MetricName, ...] = (
    _of_play("reward/<tag>/mean", "reward", "Mean over usable episodes; an episode counts once, however many agents."),
    _of_play("reward/<tag>/std", "reward", "Standard deviation over usable episodes, with n - 1; 0 for a single one."),
    _of_play(
        "reward/<tag>/per_call_mean",
        "reward",
        "What `tuner.add_reward` gave a call, mean; part of `reward/<tag>/mean`. Only where any was given.",
    ),
    _of_play("episode/success_rate", "share", "Of the usable episodes whose workflow says whether it succeeded."),
    _of_play("episode/ok", "episodes", "Ended as they should."),
    _of_play("episode/policy_error", "episodes", "Ended by `PolicyError`: the policy's own fault, scored and trained."),
    _of_play("episode/infra_error", "episodes", "Lost to an error of code or infrastructure after every retry."),
    _of_play("episode/timeout", "episodes", "Lost to `rollout.timeout_s` after every retry."),
    _of_play("episode/retries", "attempts", "Attempts beyond the first of each episode."),
    _of_play("episode/context_overflows", "requests", "Did not fit into the model's context (`model.max_context`)."),
    _of_play(
        "episode/undelivered_calls",
        "calls",
        "Their reply was not received, as the client had hung up or was cancelled. They are not trained on.",
    ),
    _of_play("episode/turns_mean", "calls", "Calls of trained agents in a usable episode, mean."),
    _of_play("episode/calls_mean", "calls", "Calls of all agents in a usable episode, mean."),
    _of_play(
        "episode/<tag>/uncalled",
        "agents",
        "Trained agents that the workflow created and never called. They share a reward and teach nothing.",
    ),
    _of_play(
        "episode/pass@<k>",
        "share",
        "Probability that one of k episodes of a task succeeds, mean over tasks; where tasks are played several times.",
    ),
    _of_play("episode/best@<k>", "score", "Expected best score among k episodes of a task, mean over tasks."),
    _of_play(
        "format/<tag>/error_rate",
        "share",
        "Sampled replies that cannot be parsed, or whose arguments do not fit the tool's parameters.",
    ),
    _of_play(
        "format/<tag>/unchecked_rate",
        "share",
        "Sampled replies whose arguments could not be checked: the schema of the tool's parameters cannot be followed.",
    ),
    _of_play(
        "format/<tag>/truncated_rate",
        "share",
        "Sampled replies that were cut: at `rollout.max_tokens`, at what the program allowed, or at the end of the "
        "context. With `algorithm.mask_truncated`, those that the loss leaves out.",
    ),
    _of_play("tokens/<tag>/per_call_mean", "tokens", "Sampled tokens a call, mean."),
    _of_play("workflow/<name>", "the workflow's", "Mean of `log_metrics[<name>]` over the episodes that report it."),
    _of_play(
        "workflow/<name>/not_finite",
        "values",
        "Values that were infinite, NaN or beyond 1e300, and are left out of the mean; only where there are any.",
    ),
    _of_training(
        "advantage/<tag>/abs_mean",
        "advantage",
        "Mean of the absolute advantages over episodes, in each over the tag's agents, and of each over its calls: how "
        "much there is to learn from.",
    ),
    _of_training("advantage/<tag>/std", "advantage", "Standard deviation of the advantages, calls weighed likewise."),
    _of_training(
        "group/resampled",
        "groups",
        "Taught nothing and were replaced by groups of other tasks (`rollout.max_resamples`). Their episodes count in "
        "`reward/`, `episode/`, `format/`, `tokens/sampled`, `tokens/prompt` and `time/rollout`, so that these are of "
        "all that the policy played; all else is of what was trained on.",
    ),
    _of_training(
        "group/still_silent", "groups", "Teach nothing and stay, as they were replaced `rollout.max_resamples` times."
    ),
    _of_training(
        "group/<tag>/zero_std_fraction",
        "share",
        "Pools of rewards, one a group unless `credit` says otherwise, that are all equal, penalties included: they "
        "teach nothing.",
    ),
    _of_training(
        "group/<tag>/singleton_fraction", "share", "Such pools of a single usable episode, which has no baseline."
    ),
    _of_training(
        "credit/replays",
        "episodes",
        "Played again to be compared with the step's (`credit=difference`, `counterfactual`).",
    ),
    _of_training("credit/lost", "episodes", "Of these, lost to an error or a timeout after every retry."),
    _of_training(
        "credit/not_reproduced",
        "episodes",
        "Of these, replays in which the workflow made other requests before anything was changed; they are not used.",
    ),
    _of_training(
        "credit/given_fraction",
        "share",
        "Calls in replays that were answered from the record; the larger, the more a replay shares with its episode.",
    ),
    _of_training("tokens/sampled", "tokens", "Sampled by trained agents."),
    _of_training("tokens/credit", "tokens", "Sampled in replays for the credit rule; never trained on."),
    _of_training("tokens/prompt", "tokens", "In the prompts of trained agents, counted once a call."),
    _of_training(
        "tokens/<tag>/steps_off_policy",
        "updates",
        "That the policy has had since a call was sampled, mean over calls; with `rollout.max_steps_off_policy`.",
    ),
    _of_training("tokens/rows", "tokens", "In the rows to train on, before shared prefixes are merged."),
    _of_training("tokens/unique", "tokens", "Computed in a forward pass, after shared prefixes were merged."),
    _of_training("tokens/merge_ratio", "ratio", "`tokens/rows` / `tokens/unique`: what the prefix tree saves."),
    _of_training(
        "tokens/trained", "tokens", "Sampled tokens with a place in the loss, those that rows share counted once a row."
    ),
    _of_training(
        "tokens/zero_advantage",
        "tokens",
        "Sampled tokens whose advantage is 0: nothing moves them but a KL penalty, KL-Cov, an entropy bonus and the "
        "values of `credit=critic`.",
    ),
    _of_training("batch/packs", "packs", "Forward passes of the step; each holds at most `algorithm.max_pack_tokens`."),
    _of_training(
        "policy/loss",
        "loss",
        "The loss that was minimized, summed over tags and optimizer steps, with KL penalty, KL-Cov and entropy bonus.",
    ),
    _of_training("policy/grad_norm", "norm", "Global norm of the gradient before clipping, mean over optimizer steps."),
    _of_training("policy/learning_rate", "rate", "At the step's first optimizer step."),
    _of_training("policy/optimizer_steps", "steps", "That changed the weights."),
    _of_training(
        "policy/skipped_nonfinite",
        "steps",
        "Optimizer steps that were skipped, as their loss or gradient was not finite. Three training "
        "steps in a row with "
        "one end the run.",
    ),
    _of_training(
        "policy/max_logprob_gap",
        "nats",
        "Largest difference between the log-probability at sampling and in training. Large values mean that engine and "
        "trainer compute different models.",
    ),
    _of_training(
        "policy/<tag>/entropy",
        "nats",
        "Mean entropy of the policy's distributions at sampled tokens, over all that the update computes: without a KL "
        "penalty, an entropy bonus or the like these are the episodes that have an advantage, and with several "
        "optimizer steps the policy moves meanwhile. So it is with the other `policy/<tag>/*` of the update's tokens.",
    ),
    _of_training(
        "policy/<tag>/entropy_coef",
        "weight",
        "Weight of the entropy bonus in the next step, with `algorithm.entropy_target`; 0 while the entropy is above.",
    ),
    _of_training(
        "policy/<tag>/sampled_entropy",
        "nats",
        "Mean of -log-probability over all sampled tokens, as the engine gave it: an estimate of the entropy that "
        "leaves no episode out.",
    ),
    _of_training(
        "policy/<tag>/certain_fraction",
        "share",
        "Sampled tokens whose distribution has too little entropy for credit (`algorithm.min_entropy`, "
        "`top_entropy_quantile`).",
    ),
    _of_training(
        "policy/<tag>/held_fraction",
        "share",
        "Sampled tokens that are held where they were, being among those that cost most entropy "
        "(`algorithm.kl_cov_share`).",
    ),
    _of_training(
        "policy/<tag>/value_loss",
        "reward^2",
        "Mean of (V - target)^2 / 2 over sequences and in each over its agents and their calls, as in the loss, before "
        "the update; with `credit=critic`. "
        "`policy/loss` is without it.",
    ),
    _of_training(
        "policy/<tag>/value_explained_variance",
        "share",
        "1 - var(target - V) / var(target), calls weighed as in `value_loss`, before the update: 1 where values tell "
        "what will come, about 0 where they tell nothing, below 0 where they mislead. Only where targets differ.",
    ),
    _of_training(
        "policy/<tag>/clip_fraction", "share", "Sampled tokens whose gradient the clip of their ratio has taken."
    ),
    _of_training(
        "policy/<tag>/clip_fraction_low",
        "share",
        "Share of all that is clipped and has a negative advantage (`algorithm.clip_low`, and `delta` of `dual_clip`).",
    ),
    _of_training(
        "policy/<tag>/clip_fraction_high",
        "share",
        "Share of all that is clipped and has a positive advantage (`algorithm.clip_high`).",
    ),
    _of_training(
        "policy/<tag>/capped_fraction",
        "share",
        "Sampled tokens whose ratio is above the cap of `loss=cispo`, which holds their weight and leaves them their "
        "gradient, whatever their advantage.",
    ),
    _of_training(
        "policy/<tag>/masked_fraction",
        "share",
        "Sampled tokens left out for their distance to the sampler (`algorithm.mis_low`, `mis_high`, "
        "`off_policy_threshold`).",
    ),
    _of_training(
        "policy/<tag>/effective_sample_size",
        "share",
        "(sum w)^2 / (n sum w^2) over n sampled tokens, w the ratio of the policy to what was sampled from, corrected "
        "as their loss is: 1 where all count alike, 1/n where a single one does.",
    ),
    _of_training("policy/<tag>/ratio_min", "ratio", "Smallest ratio of a sampled token, exp(logp - logp_old)."),
    _of_training("policy/<tag>/ratio_max", "ratio", "Largest ratio of a sampled token."),
    _of_training(
        "policy/<tag>/ratio_p01",
        "ratio",
        "1% of the sampled tokens have a ratio below; to 2.5% of its logarithm, however many packs and ranks.",
    ),
    _of_training("policy/<tag>/ratio_p99", "ratio", "1% of the sampled tokens have a ratio above; likewise."),
    _of_training(
        "reward/<tag>/kl_cost_mean",
        "reward",
        "What `algorithm.kl_in=reward` takes from an agent's reward in an episode, mean; for its advantage only: "
        "`reward/<tag>/mean` is without it.",
    ),
    _of_training(
        "policy/<tag>/kl_ref",
        "nats",
        "KL divergence from the starting model, or the reference that follows, a token (k3); 0 where there is no "
        "penalty, as no reference is kept. With `algorithm.kl_in=reward` that of what the engine sampled from, else "
        "the policy's.",
    ),
    _of_training(
        "policy/<tag>/mismatch_kl",
        "nats",
        "KL divergence a token (k3) between the engine's and the trainer's distribution before the "
        "first optimizer step.",
    ),
    _of_training(
        "policy/<tag>/grad_weight",
        "share",
        "The tag's part of the sum of |loss weight x advantage| over all tokens: who drives the update. They sum to 1.",
    ),
    _of_training("rate/episodes_per_s", "episodes/s", "Episodes of the step by the seconds that playing took."),
    _of_training("rate/sampled_tokens_per_s", "tokens/s", "`tokens/sampled` by the seconds that playing took."),
    _of_training("time/rollout", "s", "Playing the step's episodes."),
    _of_training("time/credit", "s", "Playing episodes again for the credit rule."),
    _of_training(
        "time/advantage",
        "s",
        "Rewards to advantages, and the forward passes that come before: values with `credit=critic`, the reference's "
        "with `algorithm.kl_in=reward`.",
    ),
    _of_training("time/pack", "s", "Episodes and advantages to rows, and rows to packs."),
    _of_training("time/update", "s", "Forward and backward passes and optimizer steps."),
    _of_training("time/sync", "s", "Handing the new weights to the engine."),
    _of_training("time/eval", "s", "Held-out play, in steps that evaluate."),
    _of_training("time/log", "s", "Writing trajectories."),
    _of_training(
        "time/overlap",
        "s",
        "Of the step's rollout, what ran beside earlier steps; with `rollout.max_steps_off_policy`.",
    ),
    _of_training("time/step", "s", "Sum of the phases above, without what overlapped."),
    _of_training(
        "memory/peak_<phase>",
        "GiB",
        "Most memory that the process held while a phase ran; where Linux does not let it be measured anew, since the "
        "start.",
    ),
    _of_training("memory/gpu_peak_<phase>", "GiB", "Most that torch had allocated on the GPU while a phase ran."),
)
"""In the order of the page."""


def explanation(name: str) -> MetricName | None:
    """What explains a logged name, or None; the most particular pattern wins."""
    found = [metric for metric in METRIC_NAMES if metric.matches(name)]
    return max(found, key=lambda metric: len(metric.pattern), default=None)
