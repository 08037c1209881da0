// Every setting of train, chat and export: LLaMA-Factory's keys and defaults. Filled by cli/arguments from YAML, overrides and flags.
#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "loraine/core/describe.h"

namespace loraine {

// Stage grpo, in trl's words and with its defaults (docs/methods/grpo.md). What it shares with answers (temperature, top_p, top_k) has
// trl's default there where it is not given: rollout_sampling in grpo_options.h.
struct GrpoConfig {
  std::optional<std::string> reward_checks;        // file of checks
  std::optional<std::string> reward_weights;       // comma list of numbers; null: as the file says
  int64_t num_generations = 8;                     // answers to a question
  std::optional<int64_t> num_generations_eval;     // null: the same
  std::optional<int64_t> max_prompt_length = 512;  // longer prompts are cut at the left; null: none is
  int64_t max_completion_length = 256;             // longest answer
  std::optional<int64_t> steps_per_generation;     // micro-batches that the answers of a generation make; null: those of an update
  std::optional<int64_t> generation_batch_size;    // the same in answers
  std::optional<double> min_p;
  double beta = 0.0;  // weight of the divergence from the reference
  double epsilon = 0.2;
  std::optional<double> epsilon_high, delta;        // null: epsilon; no bound
  int64_t num_iterations = 1;                       // times that a generation is trained on
  std::string importance_sampling_level = "token";  // token, sequence
  std::string scale_rewards = "group";              // group, batch, none
  std::string loss_type = "dapo";                   // grpo, bnpo, dr_grpo, dapo
  double top_entropy_quantile = 1.0;                // share of tokens, by entropy, that the ratio's loss counts
  bool mask_truncated_completions = false, disable_dropout = false, log_completions = false;
};

struct TrainConfig {
  std::set<std::string> given;  // keys that were set, to tell them from defaults

  // model
  std::string model_name_or_path;                         // folder or .gguf; empty: not given
  std::optional<std::string> adapter_name_or_path;        // comma list of folders or name=path
  std::string model_revision = "main";                    // of ids: a branch, a tag or a commit
  std::optional<std::string> cache_dir, adapter_folder;   // of downloads; within an adapter's folder
  std::optional<std::string> hf_hub_token, ms_hub_token;  // secrets: shown and kept nowhere
  std::string infer_dtype = "auto";         // auto, float16, bfloat16, float32: what answers are computed in, and what export writes
  std::optional<int64_t> quantization_bit;  // 4, 8; of HQQ 1, 2, 3 too; null: the base as it is
  std::string quantization_type = "nf4";    // nf4, fp4
  bool double_quantization = true;
  std::string quantization_method = "bnb";  // bnb, hqq
  int64_t hqq_axis = 0, hqq_group_size = 64;
  bool split_special_tokens = false;
  bool train_from_scratch = false;
  bool resize_vocab = false;                                  // the embedding grows to the tokenizer
  std::optional<std::string> add_tokens, add_special_tokens;  // comma lists; they grow it, too
  std::optional<std::string> new_special_tokens_config;       // file of token: description, in the place of add_special_tokens
  std::string init_special_tokens = "noise_init";             // noise_init, desc_init, desc_init_w_noise
  std::optional<std::string> rope_scaling;                    // linear, dynamic, yarn, llama3: longer positions than the model was made for
  bool strict = false;                                        // a warning about an input becomes an error

  // data
  std::optional<std::string> dataset, eval_dataset;  // comma lists of names in dataset_info.json and of paths
  std::string dataset_dir = "data";
  std::optional<std::string> tokenized_path;
  std::optional<std::string> template_name;  // key `template`; null: the model's own chat template
  int64_t cutoff_len = 2048;
  std::optional<int64_t> max_samples;
  int64_t skip_bad_rows = 0;  // up to this many rows that cannot be used are dropped
  bool allow_data_change = false;
  std::string mix_strategy = "concat";          // concat, interleave_under, interleave_over, interleave_once
  std::optional<std::string> interleave_probs;  // comma list of numbers
  bool eval_on_each_dataset = false;
  bool streaming = false;              // rows are read while they are trained on
  int64_t buffer_size = 16384;         // streaming: rows among which the next one is drawn
  int64_t dataloader_num_workers = 0;  // streaming: parts of each set
  double val_size = 0.0;               // above 1 a count, else a share
  std::optional<bool> packing;         // null: only with stage pt
  bool neat_packing = false;           // packing whose samples do not see each other
  int64_t preprocessing_batch_size = 1000;
  std::optional<int64_t> preprocessing_num_workers;
  bool train_on_prompt = false;
  bool mask_history = false;
  std::optional<std::string> default_system;
  std::optional<bool> enable_thinking = true;
  bool preserve_thinking = false;
  std::optional<std::string> tool_format;  // null: the template's own

  // method
  std::string stage = "sft";             // pt, sft, rm, dpo, kto, grpo, decision
  std::string finetuning_type = "lora";  // lora, freeze, full, or a method of PEFT's (adapters/peft_methods)
  int64_t freeze_trainable_layers = 2;   // the last n, or below 0 the first n
  std::string freeze_trainable_modules = "all";
  std::optional<std::string> freeze_extra_modules;
  bool use_llama_pro = false;                    // freeze, lora: of freeze_trainable_layers equal stretches the last layer of each
  std::optional<std::string> additional_target;  // modules trained whole beside LoRA
  std::string bias = "none";                     // none, all, lora_only
  double label_smoothing_factor = 0.0;
  bool use_dft_loss = false, use_asft_loss = false, use_eaft_loss = false;  // other losses of a token (token_loss.h)
  double asft_alpha = 0.1, eaft_alpha = 1.0;
  std::string pref_loss = "sigmoid";  // stage dpo: sigmoid, hinge, ipo, orpo, simpo
  double pref_beta = 0.1, pref_ftx = 0.0, pref_bco_weight = 0.0;
  double dpo_label_smoothing = 0.0, simpo_gamma = 0.5;
  std::optional<double> ld_alpha;  // null: all labels of an answer count alike
  double kto_chosen_weight = 1.0, kto_rejected_weight = 1.0;
  std::optional<std::string> ref_model, ref_model_adapters;  // null: the base, with the adapter off
  std::optional<int64_t> ref_model_quantization_bit;
  double decision_brier = 0.5;    // weight of the Brier term
  double decision_holdout = 0.1;  // share of the training rows that calibrate, where no others do
  GrpoConfig grpo;
  int64_t lora_rank = 8;
  std::optional<int64_t> lora_alpha;  // null: 2 * lora_rank
  double lora_dropout = 0.0;
  std::string lora_target = "all";                     // comma list of names, `all`, or a regular expression
  bool lora_bias = false;                              // B has a bias that is trained
  std::optional<std::string> trainable_token_indices;  // JSON text of a list of ids, or of a map, module → such a list
  std::optional<std::string> alora_invocation_tokens;  // comma list of ids: the adapter is on from the last such sequence
  bool use_rslora = false;
  std::optional<std::string> rank_pattern, alpha_pattern;  // JSON text of a map, name or pattern → number
  std::optional<std::string> layers_to_transform;          // comma list of layer numbers; null: all
  std::optional<std::string> layers_pattern;               // comma list of names before the layer's number
  std::optional<std::string> exclude_modules;              // like lora_target
  int64_t oft_rank = 0, oft_block_size = 32;               // finetuning_type oft: one of the two, the other 0
  std::string oft_target = "all";                          // like lora_target
  double module_dropout = 0.0;
  std::optional<std::string> adapter_args;  // JSON text of a map: PEFT's keys of that method
  bool use_dora = false;
  std::string init_lora_weights = "true";  // true, gaussian, orthogonal, olora, pissa, loftq, eva, corda, lora_ga
  std::optional<int64_t> start_samples;    // examples that a start out of the data looks at; null: 256 of corda, 64 of lora_ga, all of eva
  double eva_rho = 2, eva_tau = 0.99;
  bool eva_use_label_mask = true, eva_whiten = false, eva_adjust_scaling_factors = true;
  std::string corda_method = "ipm";                                   // ipm, kpm
  std::string lora_ga_direction = "ArB2r", lora_ga_scale = "stable";  // PEFT's words
  double lora_ga_stable_gamma = 16;
  int64_t loftq_bits = 4, loftq_iter = 1;
  bool pissa_init = false;
  int64_t pissa_iter = 16;            // -1: exact
  std::optional<bool> pissa_convert;  // null: where PEFT would not find the start again
  bool use_adalora = false;
  int64_t init_r = 12, target_r = 8, tinit = 0, tfinal = 0, deltaT = 1;
  double beta1 = 0.85, beta2 = 0.85, orth_reg_weight = 0.5;
  std::optional<double> neftune_noise_alpha;
  std::optional<double> moe_aux_loss_coef;
  std::optional<double> loraplus_lr_ratio;  // null: B learns as fast as A
  double loraplus_lr_embedding = 1e-6;
  bool use_lorafa = false;  // A stays as it starts, B's gradient is projected
  bool create_new_adapter = false;
  bool disable_shuffling = false;
  std::string train_sampling_strategy = "random";  // random, sequential, group_by_length
  bool group_by_length = false;                    // transformers 4's word for the last one
  bool dataloader_drop_last = false;               // a last short batch is left out
  std::optional<int64_t> early_stopping_steps;     // evaluations without gain
  bool plot_loss = false;
  bool compute_accuracy = false;
  std::string include_num_input_tokens_seen = "no";  // no, all, non_padding
  bool include_effective_tokens_per_second = false;

  // run
  std::string output_dir = "trainer_output";
  bool overwrite_output_dir = false;
  std::optional<bool> do_train;  // null: as dataset says
  bool do_eval = false;
  int64_t per_device_train_batch_size = 8, per_device_eval_batch_size = 8;
  int64_t gradient_accumulation_steps = 1;
  std::string batching_strategy = "normal";     // normal, dynamic_batching, dynamic_padding_free: micro-batches by their tokens
  std::string gradient_checkpointing = "auto";  // auto, true, false
  std::string share_prefixes = "auto";          // auto, true, false: rows that samples of a micro-batch begin with alike are there once
  std::optional<std::string> memory_limit;      // "2GB"; null: what the machine and its cgroup have
  double num_train_epochs = 3.0;
  int64_t max_steps = -1;  // wins over epochs when positive
  int64_t seed = 42;
  std::optional<int64_t> data_seed;                   // order of samples; null: seed
  bool ignore_data_skip = false;                      // a resumed run takes the data of its epoch from the start again
  std::optional<std::string> resume_from_checkpoint;  // a folder; `true`: the newest in output_dir; `false`: none
  bool bf16 = false;
  bool pure_bf16 = false, fp16 = false;                 // computed as bf16 and as float32 (config_notes says so)
  bool bf16_full_eval = false, fp16_full_eval = false;  // evaluations while training in bf16; the other in float32
  bool auto_find_batch_size = false;                    // halves per_device_train_batch_size until the plan fits
  std::optional<std::string> quant_aware;               // a gguf_type with codes: the forward goes through the codes of base + adapter
  int64_t quant_aware_steps = 16;                       // updates from one making of them to the next
  std::string frozen_matmul = "exact";                  // exact, int8
  bool dry_run = false;
  bool push_to_hub = false;
  std::optional<std::string> hub_model_id, hub_token, hub_revision;  // null: output_dir's name; hf_hub_token; main
  std::string hub_strategy = "every_save";
  std::optional<bool> hub_private_repo;  // null: as the account makes them
  std::string language = "auto";         // of the screen: auto, en, zh
  std::string device = "auto";           // auto, cpu, cuda: where a run computes (train/gpu/device.h)

  // optimizer and schedule
  std::string optim = "adamw_torch_fused";
  std::optional<std::string> optim_args;            // comma list of key=value
  std::optional<std::string> optim_target_modules;  // comma list of names and patterns: what galore_* and apollo_* project
  bool use_galore = false, galore_layerwise = false;
  std::string galore_target = "all", galore_proj_type = "std";
  int64_t galore_rank = 16, galore_update_interval = 200;
  double galore_scale = 2.0;
  bool use_apollo = false, apollo_layerwise = false, apollo_scale_front = false;
  std::string apollo_target = "all", apollo_proj = "random", apollo_proj_type = "std", apollo_scale_type = "channel";
  int64_t apollo_rank = 16, apollo_update_interval = 200;
  double apollo_scale = 32.0;
  bool use_badam = false;
  std::string badam_mode = "layer", badam_mask_mode = "adjacent";
  std::optional<int64_t> badam_start_block, badam_switch_interval = 50;  // -1: never
  std::optional<std::string> badam_switch_mode = "ascending";
  double badam_update_ratio = 0.05;
  bool use_adam_mini = false, use_muon = false;
  double learning_rate = 5e-5;
  double weight_decay = 0.0;
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;  // 0: no clipping
  std::string lr_scheduler_type = "linear";
  std::optional<std::string> lr_scheduler_kwargs;  // JSON text of a map
  double warmup_steps = 0;                         // below 1 a share of all updates
  std::optional<double> warmup_ratio;              // wins over warmup_steps

  // logging, saving, evaluation; a step count below 1 is a share of all updates
  double logging_steps = 500;
  bool logging_first_step = false;
  std::string logging_strategy = "steps";  // no, steps, epoch
  std::string save_strategy = "steps";     // no, steps, epoch, best
  double save_steps = 500;
  std::optional<int64_t> save_total_limit;
  bool save_only_model = false;
  std::string eval_strategy = "no";  // no, steps, epoch
  std::optional<double> eval_steps;  // null: logging_steps
  bool eval_on_start = false;
  double eval_delay = 0;  // no evaluation before so many updates, or epochs with eval_strategy epoch
  bool load_best_model_at_end = false;
  std::optional<std::string> report_to = "none";  // comma list of trackers (report_to.h)
  std::optional<std::string> run_name, logging_dir;
  std::string project = "huggingface";  // trackio's
  bool use_swanlab = false;
  std::optional<std::string> swanlab_project = "llamafactory", swanlab_workspace, swanlab_run_name, swanlab_logdir;
  std::string swanlab_mode = "cloud";  // cloud, local
  std::optional<std::string> trackio_space_id, trackio_bucket_id;
  std::optional<std::string> metric_for_best_model;  // null: loss
  std::optional<bool> greater_is_better;             // null: false when the metric ends in "loss"

  // generation
  bool do_sample = true;
  double temperature = 0.95, top_p = 0.7;
  int64_t top_k = 50;
  int64_t max_new_tokens = 1024;
  double repetition_penalty = 1.0;
  int64_t num_beams = 1;
  double length_penalty = 1.0;
  bool skip_special_tokens = true;

  // export
  std::optional<std::string> export_dir;
  int64_t export_size = 5;  // largest shard in 10^9 bytes
  std::string export_device = "cpu";
  bool export_legacy_format = false;
  std::optional<std::string> export_hub_model_id;
};

void describe(TrainConfig& config, const OptionVisitor& visit);
std::vector<Option> options_of(TrainConfig& config);

// What is to be said about settings that are taken: a word of another program (other_words.h), and keys that mean nothing here, together.
struct SettingNote {
  std::string text;
  bool warning = false;  // another key is likely to be meant
};

// Applies settings in order. Throws Error::usage for an unknown key (with the nearest known one), a wrong value or a key given in two words
// with two values, Error::unsupported for a key of LLaMA-Factory that would change the result and is not built.
// `extra`: options of one command only (not LLaMA-Factory's keys).
std::vector<SettingNote> apply_settings(TrainConfig& config, std::span<const Setting> settings, std::span<const Option> extra = {});

// Rules between keys; throw Error::usage naming the keys.
void check_train_config(const TrainConfig& config);
void check_chat_config(const TrainConfig& config);
void check_data_config(const TrainConfig& config);  // of the command that shows data
void check_export_config(const TrainConfig& config);
void check_hub_config(const TrainConfig& config);  // of every command: tokens, ids and revisions

// What in the settings does not count as it may have been meant, a line each: warm-up given twice, a set named twice.
std::vector<std::string> config_notes(const TrainConfig& config);

// Whether a run of that finetuning_type reads the key.
bool reads_key(const std::string& finetuning_type, const std::string& key);
// Whether an adapter is trained, and not weights of the base.
inline bool trains_adapter(const TrainConfig& config) { return config.finetuning_type != "full" && config.finetuning_type != "freeze"; }

// Items of a comma list, blanks around them removed, empty ones dropped.
std::vector<std::string> split_list(const std::optional<std::string>& text);
// The settings as given and by default, without secrets, as a JSON object in the order described (the run record).
std::string config_json(const TrainConfig& config);

}  // namespace loraine
