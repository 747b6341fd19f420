"""What users of other libraries call our settings: a word of theirs in, our keys out.

The words are those of TRL's `GRPOConfig` and Hugging Face's `TrainingArguments`, verl, OpenRLHF, prime-rl and vLLM, the
last part of a dotted key alone. Left out: words that are ours already, and what has no counterpart here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

SYNONYMS: Mapping[str, str] = {
    # ours: theirs
    "algorithm.learning_rate": "lr actor_learning_rate step_size",
    "algorithm.lr_schedule": "lr_scheduler lr_scheduler_type lr_warmup_style warmup_style",
    "algorithm.warmup_steps": "warmup_ratio num_warmup_steps lr_warmup_steps lr_warmup_steps_ratio lr_warmup_ratio",
    "algorithm.weight_decay": "wd l2 adam_weight_decay",
    "algorithm.max_grad_norm": "grad_clip clip_grad gradient_clip_val grad_norm max_norm",
    "algorithm.clip_low": "epsilon eps_clip clip_ratio clip_ratio_low clip_range cliprange",
    "algorithm.clip_high": "epsilon_high clip_ratio_high eps_clip_high eps_clip_low_high",
    "algorithm.kl_coef": "beta kl_loss_coef init_kl_coef kl_coeff use_kl_loss kl_beta",
    "algorithm.kl_in": "use_kl_in_reward kl_in_reward",
    "algorithm.kl_estimator": "kl_loss_type kl_penalty kl_penalty_type",
    "algorithm.kl_bias_correction": "use_bias_correction_kl",
    "algorithm.ref_sync_every": "sync_ref_model ref_model_sync_steps ref_update_steps",
    "algorithm.ref_sync_alpha": "ref_model_mixup_alpha",
    "algorithm.entropy_target": "use_adaptive_entropy adaptive_entropy target_entropy",
    "algorithm.entropy_coef": "entropy_coeff entropy_loss_coef ent_coef entropy_bonus",
    "algorithm.aggregation": "loss_type loss_agg_mode",
    "algorithm.loss": "policy_loss loss_mode policy_loss_fn importance_sampling_level",
    "algorithm.loss_args": "delta clip_ratio_c sapo_temperature_pos sapo_temperature_neg tau_pos tau_neg vespo_k_pos"
    " vespo_lambda_pos vespo_k_neg vespo_lambda_neg",
    "algorithm.advantage": "adv_estimator advantage_estimator",
    "algorithm.scale_rewards": "norm_adv_by_std_in_grpo normalize_advantages",
    "algorithm.mask_truncated": "mask_truncated_completions overlong_filter",
    "algorithm.overlong_buffer": "soft_punish_cache overlong_buffer_len",
    "algorithm.overlong_penalty": "penalty_factor",
    "credit.discount": "gamma discount_factor",
    "credit.decay": "role_baseline_ema_gamma ema_decay",
    "algorithm.num_epochs": "num_iterations ppo_epochs num_ppo_epochs update_epochs n_epochs max_epochs",
    "algorithm.num_minibatches": "ppo_mini_batch_size mini_batch_size num_mini_batches micro_batch_size minibatch_size",
    "algorithm.correction_level": "vllm_importance_sampling_mode vllm_importance_sampling_correction rollout_is"
    " rollout_rs",
    "algorithm.tis_cap": "tis_imp_ratio_cap vllm_importance_sampling_cap vllm_importance_sampling_clip_max"
    " rollout_is_threshold",
    "algorithm.tis_floor": "vllm_importance_sampling_clip_min",
    "algorithm.off_policy_threshold": "off_policy_mask_threshold",
    "algorithm.max_pack_tokens": "ppo_max_token_len_per_gpu max_tokens_per_gpu per_device_train_batch_size"
    " gradient_accumulation_steps micro_train_batch_size",
    "rollout.group_size": "num_generations n n_samples_per_prompt rollouts_per_example num_return_sequences num_repeat"
    " num_rollouts group",
    "rollout.num_tasks": "train_batch_size rollout_batch_size generation_batch_size batch_size prompts_per_step"
    " num_prompts",
    "rollout.max_tokens": "max_completion_length max_new_tokens max_response_length generate_max_len max_length"
    " max_completion_tokens response_length",
    "rollout.concurrency": "max_concurrent num_workers workers max_env_worker num_envs agent_num_workers",
    "rollout.timeout_s": "timeout episode_timeout",
    "rollout.max_resamples": "max_num_gen_batches filter_groups dynamic_sampling dynamic_filtering",
    "rollout.max_retries": "retries max_try num_retries",
    "rollout.temperature": "temp sampling_temperature",
    "model.path": "model.name model_name_or_path model_name pretrain hf_model_path model_path"
    " pretrained_model_name_or_path"
    " actor_model",
    "model.dtype": "torch_dtype bf16 fp16 precision model_dtype",
    "model.max_context": "max_model_len max_prompt_length prompt_max_len seq_len max_seq_length max_seq_len"
    " vllm_max_model_length context_length",
    "model.lora.rank": "lora_rank lora_r use_peft use_lora peft_config r",
    "model.lora.alpha": "lora_alpha",
    "model.lora.targets": "lora_target_modules target_modules",
    "engine.name": "use_vllm backend rollout_backend inference_engine",
    "engine.gpu_memory_utilization": "vllm_gpu_memory_utilization gpu_memory",
    "engine.tensor_parallel_size": "vllm_tensor_parallel_size tensor_model_parallel_size tp tp_size",
    "engine.max_concurrency": "max_num_seqs vllm_max_num_seqs",
    "hardware.device": "gpus num_gpus n_gpus_per_node gpu cuda use_cpu no_cuda accelerator",
    "hardware.mixed_precision": "amp",
    "opponent.name": "debug_model opponent_model",
    "opponent.base_url": "api_base openai_base_url",
    "judge.entry": "reward_funcs reward_fn reward_function custom_reward_function judge_protocol reward_model",
    "judge.base_url": "remote_rm_url",
    "data.path": "dataset dataset_name dataset_path train_files train_file prompt_data train_data_path",
    "data.held_out_path": "val_files val_file eval_file test_file validation_file",
    "data.subset": "dataset_config dataset_config_name",
    "data.split": "dataset_train_split train_split",
    "data.held_out_split": "dataset_test_split eval_split val_split test_split",
    "data.fields": "input_key prompt_key label_key answer_key column_mapping",
    "total_steps": "max_steps num_train_epochs total_training_steps total_epochs steps epochs num_steps num_epochs"
    " total_timesteps train_steps",
    "eval.every": "eval_steps test_freq eval_freq eval_every eval_interval evaluation_strategy eval_strategy",
    "eval.first": "val_before_train eval_on_start",
    "eval.num_tasks": "num_eval_tasks eval_batch_size num_seed num_seeds val_batch_size",
    "num_tasks": "num_seed num_seeds num_games num_eval_tasks",
    "repeats": "num_repeats",
    "checkpoint.every": "save_steps save_freq save_interval save_every ckpt_interval interval save_strategy",
    "checkpoint.keep": "save_total_limit max_ckpt_num max_ckpt_to_keep keep_last",
    "logger.wandb.mode": "report_to use_wandb wandb wandb_mode",
    "logger.wandb.project": "project wandb_project project_name",
    "logger.wandb.name": "run_name experiment_name wandb_run_name exp_name",
    "logger.wandb.group": "wandb_group",
    "logger.trajectories_every": "log_completions rollout_data_dir log_rollouts",
    "run_dir": "output_dir default_local_dir save_path log_dir logdir out_dir outdir ckpt_path",
    "run": "checkpoint_dir resume_from",
    "resume": "resume_from_checkpoint resume_from_path load_checkpoint ckpt",
    "seed": "random_seed num_seed num_seeds rng_seed",
    "workflow.entry": "user_workflow entry_point env environment environment_name",
    "workflow.params": "env_args env_kwargs env_config",
    "trainable_targets": "trainable_agents targets roles train_roles agents_to_train policies_to_train",
}
FILTERS = {
    *("top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "do_sample"),
    *("repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias", "no_repeat_ngram_size"),
    *("guided_decoding", "guided_decoding_regex", "vllm_guided_decoding_regex"),
}
"""Settings of sampling that ajet refuses."""
WHY_NO_FILTERS = (
    "what is trained on has to be the distribution that was sampled from, so that nothing but rollout.temperature "
    "shapes it"
)


def our_keys(word: str, exists: Callable[[str], bool]) -> list[str]:
    """Our names for a word of another library's, those that exist here.

    Example: `our_keys("beta", …)` is `["algorithm.kl_coef"]`; `"num_seed"` is `eval.num_tasks` and `seed` for training
    and `num_tasks` for an evaluation.

    Args:
        word: a key, or the last part of a dotted one, in any case, with `-` or `_`.
        exists: whether the entry point at hand has a key.
    """
    plain = word.lower().replace("-", "_")
    return [key for key, words in SYNONYMS.items() if plain in words.split() and exists(key)]
