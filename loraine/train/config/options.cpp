// The description of every setting.
#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/train/config/config.h"
#include "loraine/train/config/decisions.h"
#include "loraine/train/config/grpo_options.h"
#include "loraine/train/config/preferences.h"
#include "loraine/train/optimizers/recipe.h"

namespace loraine {
namespace {

constexpr double kMost = 1e9;  // of what is counted: rows, steps, tokens

Limits between(double lowest, double highest) { return {.lowest = lowest, .highest = highest}; }
Limits from_to_below(double lowest, double highest) { return {.lowest = lowest, .highest = highest, .below_highest = true}; }
const Limits kInside = {.lowest = 0, .highest = 1, .above_lowest = true, .below_highest = true};
const Limits kShareOrCount = {.lowest = 0, .highest = kMost, .share_or_count = true};
Limits one_of(std::vector<std::string> choices, std::vector<std::string> built = {}) {
  return {.choices = std::move(choices), .built = std::move(built)};
}
const Limits kCommaList = {.comma_list = true};
const Limits kSecret = {.secret = true};

void describe_model_and_data(TrainConfig& c, const OptionVisitor& visit) {
  visit({"model_name_or_path", "model", &c.model_name_or_path,
         "base model: a Hugging Face folder, a .gguf file, or an id like org/name of a hub (docs/hub.md)"});
  visit({"adapter_name_or_path", "model", &c.adapter_name_or_path,
         "LoRA folders or ids, or name=path; of several, plain paths are on together, names keep them apart", kCommaList});
  visit({"model_revision", "model", &c.model_revision, "branch, tag or commit of models and adapters that are given by their id"});
  visit({"cache_dir", "model", &c.cache_dir,
         "folder that models, adapters and data given by their id lie in or are downloaded to; null: as "
         "HF_HUB_CACHE, HF_HOME and MODELSCOPE_CACHE say"});
  visit({"adapter_folder", "model", &c.adapter_folder, "folder within the adapter's folder or repository that holds the adapter"});
  visit({"hf_hub_token", "model", &c.hf_hub_token, "access token of Hugging Face; null: HF_TOKEN, or as hf auth login left it", kSecret});
  visit({"ms_hub_token", "model", &c.ms_hub_token, "access token of ModelScope; null: MODELSCOPE_API_TOKEN, or as modelscope login left it",
         kSecret});
  visit({"infer_dtype", "model", &c.infer_dtype,
         "what chat and eval compute in (auto: float32, or as bf16 says) and the type that export writes (auto: as stored)",
         one_of({"auto", "float16", "bfloat16", "float32"})});
  visit({"quantization_bit",
         "model",
         &c.quantization_bit,
         "the frozen linear layers in 4 bits (QLoRA) or 8 (LLM.int8), with quantization_method: hqq in 1, 2 or 3 too; null: as they are",
         {.numbers = {1, 2, 3, 4, 8}}});
  visit({"quantization_type", "model", &c.quantization_type, "code book of 4 bits", one_of({"fp4", "nf4"})});
  visit({"double_quantization", "model", &c.double_quantization, "4 bits: the scales of blocks are quantised too"});
  visit({"quantization_method", "model", &c.quantization_method, "how it is quantised",
         one_of({"bnb", "gptq", "awq", "aqlm", "quanto", "eetq", "hqq", "mxfp4", "fp8"}, {"bnb", "hqq"})});
  visit({"hqq_axis",
         "model",
         &c.hqq_axis,
         "quantization_method hqq: groups across the rows of a weight (0, as LLaMA-Factory has it) or along them (1, transformers)",
         {.numbers = {0, 1}}});
  visit({"hqq_group_size",
         "model",
         &c.hqq_group_size,
         "quantization_method hqq: weights that share a scale and a zero, a multiple of 8",
         {.lowest = 8, .highest = 1 << 20}});
  visit({"split_special_tokens", "model", &c.split_special_tokens, "the spelling of special tokens inside the text is plain text"});
  visit({"language", "model", &c.language, "of tables and messages: English, Chinese; auto: as LC_ALL, LC_MESSAGES or LANG says",
         one_of({"auto", "en", "zh"})});
  visit({"resize_vocab", "model", &c.resize_vocab,
         "give every token of the tokenizer a row of the embedding; with LoRA the embedding is trained and saved whole then"});
  visit({"add_tokens", "model", &c.add_tokens, "new tokens, comma separated; they grow the embedding", kCommaList});
  visit({"add_special_tokens", "model", &c.add_special_tokens, "the same for special tokens", kCommaList});
  visit({"new_special_tokens_config", "model", &c.new_special_tokens_config,
         "YAML file of new special tokens and what each means, `token: description`"});
  visit({"init_special_tokens", "model", &c.init_special_tokens,
         "how rows of new tokens start: at the mean of all with noise, or at the mean of their description's",
         one_of({"noise_init", "desc_init", "desc_init_w_noise"})});
  visit({"train_from_scratch", "model", &c.train_from_scratch, "full: forget the model's weights and start at random ones"});
  visit({"rope_scaling", "model", &c.rope_scaling,
         "positions beyond the model's own: training where cutoff_len is longer, answers for twice the length",
         one_of({"linear", "dynamic", "yarn", "llama3"})});
  visit({"strict", "model", &c.strict, "what would be a warning about an input is an error"});

  visit({"dataset", "data", &c.dataset,
         "training sets: names in dataset_info.json, or paths of files and folders (docs/data.md); comma separated", kCommaList});
  visit({"eval_dataset", "data", &c.eval_dataset, "evaluation sets, given in the same way", kCommaList});
  visit({"dataset_dir", "data", &c.dataset_dir, "folder of dataset_info.json and the data files"});
  visit({"tokenized_path", "data", &c.tokenized_path,
         "folder of encoded data, as LLaMA-Factory keeps them: read where it is there, else written"});
  visit({"template", "data", &c.template_name, "named chat template; null: the adapter's, else the one that comes with the model"});
  visit({"cutoff_len", "data", &c.cutoff_len, "longest example in tokens; longer ones are cut", between(1, INT32_MAX)});
  visit({"max_samples", "data", &c.max_samples, "only the first N rows of each set", between(1, kMost)});
  visit({"skip_bad_rows", "data", &c.skip_bad_rows, "up to N rows that cannot be used are dropped and counted", between(0, kMost)});
  visit({"allow_data_change", "data", &c.allow_data_change, "resume although the data are not those of the checkpoint"});
  visit({"val_size",
         "data",
         &c.val_size,
         "rows, or share, of the training set kept for evaluation",
         {.lowest = 0, .highest = kMost, .share_or_count = true, .point_is_share = true}});
  visit({"streaming", "data", &c.streaming, "rows are read and encoded while they are trained on; needs max_steps"});
  visit({"buffer_size", "data", &c.buffer_size, "streaming: rows in memory among which the next one is drawn", between(1, kMost)});
  visit({"dataloader_num_workers", "data", &c.dataloader_num_workers,
         "streaming: parts of each set, whose order changes with the epoch; 0: one", between(0, 65536)});
  visit({"mix_strategy", "data", &c.mix_strategy,
         "how several sets become one: end to end, or in turn until the first has ended (under), until all have, those that end starting "
         "again (over) or not (once)",
         one_of({"concat", "interleave_under", "interleave_over", "interleave_once"})});
  visit({"interleave_probs", "data", &c.interleave_probs, "interleaved sets are drawn with these probabilities; null: they take turns",
         kCommaList});
  visit({"eval_on_each_dataset", "data", &c.eval_on_each_dataset, "each set of eval_dataset has figures of its own"});
  visit({"packing", "data", &c.packing,
         "several samples in one block of cutoff_len tokens, where they see those before them; null: yes with stage pt"});
  visit({"neat_packing", "data", &c.neat_packing, "packing whose samples do not see each other"});
  visit({"preprocessing_batch_size", "data", &c.preprocessing_batch_size, "rows whose samples may share a block", between(1, kMost)});
  visit({"preprocessing_num_workers", "data", &c.preprocessing_num_workers,
         "the rows are cut into so many shares before they are packed; null: one", between(1, 65536)});
  visit({"train_on_prompt", "data", &c.train_on_prompt, "the prompt is trained on too"});
  visit({"mask_history", "data", &c.mask_history, "only the last answer of a conversation is trained on"});
  visit({"default_system", "data", &c.default_system, "system text where a conversation has none"});
  visit({"enable_thinking", "data", &c.enable_thinking, "thinking mode of reasoning templates"});
  visit({"preserve_thinking", "data", &c.preserve_thinking, "reasoning templates: earlier answers of a conversation keep their thoughts"});
  visit({"tool_format", "data", &c.tool_format, "how a named template writes tools and calls; null: in its own way"});
}

// LoRA, the methods of PEFT's, and the base's own weights.
std::vector<std::string> finetuning_types(bool built) {
  std::vector<std::string> all = {"lora", "freeze", "full"};
  for (const PeftMethodKind& kind : peft_methods())
    if (kind.trains || !built) all.emplace_back(kind.setting);
  return all;
}

void describe_method(TrainConfig& c, const OptionVisitor& visit) {
  visit({"stage", "method", &c.stage, "kind of training",
         one_of({"pt", "sft", "rm", "ppo", "dpo", "kto", "grpo", "decision"}, {"pt", "sft", "rm", "dpo", "kto", "grpo", "decision"})});
  visit({"finetuning_type", "method", &c.finetuning_type, "what is trained", one_of(finetuning_types(false), finetuning_types(true))});
  visit({"freeze_trainable_layers", "method", &c.freeze_trainable_layers, "freeze: the last N layers train; below 0 the first N",
         between(-65536, 65536)});
  visit({"freeze_trainable_modules", "method", &c.freeze_trainable_modules, "freeze: parts of those layers, comma separated, or `all`",
         kCommaList});
  visit({"freeze_extra_modules", "method", &c.freeze_extra_modules,
         "freeze: modules outside the layers that train too: embed_tokens, norm, lm_head", kCommaList});
  visit({"use_llama_pro", "method", &c.use_llama_pro,
         "LLaMA Pro: train the layers that expansion put in: the last of each of freeze_trainable_layers equal stretches"});
  visit({"lora_rank", "method", &c.lora_rank, "rank r of A and B", between(1, 65536)});
  visit({"lora_alpha", "method", &c.lora_alpha, "the update is scaled by alpha / r; null: twice the rank", between(1, kMost)});
  visit({"lora_dropout", "method", &c.lora_dropout, "share of inputs of A set to zero while training", from_to_below(0, 1)});
  visit({"lora_target", "method", &c.lora_target,
         "linear layers that get an adapter: names, comma separated, `all`, or a regular expression; beside names `experts`, the matrices "
         "of experts",
         kCommaList});
  visit({"additional_target", "method", &c.additional_target,
         "modules trained whole beside LoRA and saved with it (PEFT's modules_to_save), comma separated", kCommaList});
  visit({"bias", "method", &c.bias, "biases trained beside LoRA: all, or those of adapted layers", one_of({"none", "all", "lora_only"})});
  visit({"lora_bias", "method", &c.lora_bias, "B has a bias that is trained"});
  visit({"trainable_token_indices",
         "method",
         &c.trainable_token_indices,
         "rows of the embedding that are trained beside LoRA: token ids, comma separated, or a map of module name to a list of them",
         {.comma_list = true, .json = true}});
  visit({"alora_invocation_tokens", "method", &c.alora_invocation_tokens,
         "aLoRA: token ids, comma separated; the adapter is on from the last place of this sequence on, and off before", kCommaList});
  visit({"use_rslora", "method", &c.use_rslora, "scale by alpha / sqrt(r)"});
  visit({"rank_pattern",
         "method",
         &c.rank_pattern,
         "ranks of their own: a map of module name or pattern to rank, the first that matches counts",
         {.json = true}});
  visit({"alpha_pattern", "method", &c.alpha_pattern, "alphas of their own, in the same way", {.json = true}});
  visit(
      {"layers_to_transform", "method", &c.layers_to_transform, "only these layers get an adapter: numbers, comma separated", kCommaList});
  visit({"layers_pattern", "method", &c.layers_pattern, "name before a layer's number, where it is not the first number of a module's path",
         kCommaList});
  visit({"exclude_modules", "method", &c.exclude_modules, "layers that get no adapter, written like lora_target", kCommaList});
  visit({"oft_rank", "method", &c.oft_rank, "OFT: number of blocks per module; 0: as oft_block_size says", between(0, 65536)});
  visit({"oft_block_size", "method", &c.oft_block_size,
         "OFT: size of a block, or the nearest that divides the module's input; 0: as oft_rank says", between(0, 65536)});
  visit({"oft_target", "method", &c.oft_target, "OFT: like lora_target", kCommaList});
  visit({"module_dropout", "method", &c.module_dropout, "OFT: written into its config; as in PEFT it has no effect", from_to_below(0, 1)});
  visit({"adapter_args",
         "method",
         &c.adapter_args,
         "of a finetuning_type other than lora, freeze and full: the method's keys in PEFT's words, a map",
         {.json = true}});
  visit({"use_dora", "method", &c.use_dora, "DoRA: a trained magnitude per row of the weight"});
  visit(
      {"init_lora_weights", "method", &c.init_lora_weights,
       "how A and B start; olora and pissa take their start out of the base, loftq quantises the base, eva, corda and lora_ga look at the "
       "data",
       one_of({"true", "gaussian", "orthogonal", "olora", "pissa", "loftq", "eva", "corda", "lora_ga"})});
  visit({"start_samples", "method", &c.start_samples,
         "eva, corda, lora_ga: examples that the start looks at; null: 256 of corda, 64 of lora_ga, all of eva", between(1, kMost)});
  visit({"eva_rho", "method", &c.eva_rho, "EVA: a layer's rank becomes at most so many times its own", between(1, 1000)});
  visit({"eva_tau", "method", &c.eva_tau, "EVA: cosine between two batches from which on a direction counts as settled", between(0, 1)});
  visit({"eva_use_label_mask", "method", &c.eva_use_label_mask, "EVA: only tokens that are trained count"});
  visit({"eva_whiten", "method", &c.eva_whiten, "EVA: directions divided by the roots of their singular values"});
  visit({"eva_adjust_scaling_factors", "method", &c.eva_adjust_scaling_factors, "EVA: alphas go with the ranks, so that scales stay"});
  visit({"corda_method", "method", &c.corda_method,
         "CorDA: train the largest directions (ipm) or the smallest, which keeps what the model knows (kpm)", one_of({"ipm", "kpm"})});
  visit({"lora_ga_direction", "method", &c.lora_ga_direction, "LoRA-GA: which singular vectors of the gradient A and B get",
         one_of({"ArBr", "A2rBr", "ArB2r", "random"})});
  visit(
      {"lora_ga_scale", "method", &c.lora_ga_scale, "LoRA-GA: how they are scaled", one_of({"stable", "weight_svd", "gd_scale", "unit"})});
  visit({"lora_ga_stable_gamma", "method", &c.lora_ga_stable_gamma, "LoRA-GA: gamma of lora_ga_scale: stable", between(1e-6, 1e6)});
  visit({"loftq_bits", "method", &c.loftq_bits, "LoftQ: what the base is quantised to, 4 (NF4) or 8", {.numbers = {4, 8}}});
  visit({"loftq_iter", "method", &c.loftq_iter, "LoftQ: times that codes and product are made in turn", between(1, 1000)});
  visit({"pissa_init", "method", &c.pissa_init, "PiSSA: A and B start as the largest singular vectors of the weight"});
  visit({"pissa_iter", "method", &c.pissa_iter, "PiSSA: iterations of the randomised search for them; -1: exact", between(-1, 10000)});
  visit({"pissa_convert", "method", &c.pissa_convert,
         "PiSSA: also write pissa_init, pissa_backup and pissa_converted, an adapter of twice the rank over the base as it was; null: with "
         "pissa_iter of 0 and more, where PEFT would find another start than the one that was trained"});
  visit({"use_adalora", "method", &c.use_adalora, "AdaLoRA: ranks go where they matter most"});
  visit({"init_r", "method", &c.init_r, "AdaLoRA: rank of every module at first", between(1, 65536)});
  visit({"target_r", "method", &c.target_r, "AdaLoRA: mean rank of a module at the end", between(1, 65536)});
  visit({"tinit", "method", &c.tinit, "AdaLoRA: updates before ranks are cut", between(0, kMost)});
  visit({"tfinal", "method", &c.tfinal, "AdaLoRA: updates at the end with the ranks settled", between(0, kMost)});
  visit({"deltaT", "method", &c.deltaT, "AdaLoRA: updates between two cuts", between(1, kMost)});
  visit({"beta1", "method", &c.beta1, "AdaLoRA: decay of the mean importance", kInside});
  visit({"beta2", "method", &c.beta2, "AdaLoRA: decay of its mean deviation", kInside});
  visit({"orth_reg_weight", "method", &c.orth_reg_weight, "AdaLoRA: weight of the penalty that keeps A and B orthogonal", between(0, 1e6)});
  visit({"neftune_noise_alpha", "method", &c.neftune_noise_alpha, "NEFTune: uniform noise on the embeddings while training",
         between(0, 1e6)});
  visit({"moe_aux_loss_coef", "method", &c.moe_aux_loss_coef,
         "weight of the load-balancing loss of experts; null: as config.json says (output_router_logits, router_aux_loss_coef)",
         between(0, 1e6)});
  visit({"loraplus_lr_ratio", "method", &c.loraplus_lr_ratio, "LoRA+: the learning rate of B over that of A; null: the same",
         between(0, 1e6)});
  visit({"loraplus_lr_embedding", "method", &c.loraplus_lr_embedding, "LoRA+: peak learning rate of B of an embedding", between(0, 1e6)});
  visit({"use_lorafa", "method", &c.use_lorafa, "LoRA-FA: A stays as it starts, and the gradient of B is projected"});
  visit({"create_new_adapter", "method", &c.create_new_adapter, "merge the given adapters first and train a new one"});
  visit({"disable_shuffling", "method", &c.disable_shuffling, "examples in the order of the files"});
  visit({"train_sampling_strategy", "method", &c.train_sampling_strategy,
         "order of the examples: shuffled, as they are, or shuffled and those of like length together",
         one_of({"random", "sequential", "group_by_length"})});
  visit({"group_by_length", "method", &c.group_by_length, "the same as train_sampling_strategy: group_by_length"});
  visit({"dataloader_drop_last", "method", &c.dataloader_drop_last,
         "leave out the last batch of an epoch, and of an evaluation, where it is short"});
  visit({"early_stopping_steps", "method", &c.early_stopping_steps, "stop after this many evaluations without a gain", between(1, kMost)});
  visit({"plot_loss", "method", &c.plot_loss, "draw the loss curves"});
  visit({"compute_accuracy", "method", &c.compute_accuracy, "token accuracy in evaluations"});
  visit({"include_num_input_tokens_seen", "method", &c.include_num_input_tokens_seen, "count the tokens seen in the log",
         one_of({"no", "all", "non_padding"})});
  visit({"include_effective_tokens_per_second", "method", &c.include_effective_tokens_per_second,
         "note tokens without padding per second in train_results.json"});
}

void describe_more_optimizers(TrainConfig& c, const OptionVisitor& visit) {
  const std::string group = "optimizer";
  const Limits rank = between(1, 65536), count = between(1, kMost), scale = between(0, 1e6);
  visit({"optim_target_modules", group, &c.optim_target_modules,
         "galore_* and apollo_*: linear layers whose gradients are projected: names or patterns, comma separated, or all-linear",
         kCommaList});
  visit({"use_galore", group, &c.use_galore, "GaLore: the optimizer works on gradients of low rank"});
  visit({"galore_target", group, &c.galore_target, "GaLore: linear layers, comma separated, or `all`", kCommaList});
  visit({"galore_rank", group, &c.galore_rank, "GaLore: rank of the gradients", rank});
  visit({"galore_update_interval", group, &c.galore_update_interval, "GaLore: updates between two projections", count});
  visit({"galore_scale", group, &c.galore_scale, "GaLore: scale of what comes back", scale});
  visit({"galore_proj_type", group, &c.galore_proj_type, "GaLore: side of a matrix that is cut to the rank",
         one_of({"std", "reverse_std", "right", "left", "full"})});
  visit({"galore_layerwise", group, &c.galore_layerwise, "GaLore: gradients are not clipped, as in updates layer by layer"});
  visit({"use_apollo", group, &c.use_apollo, "APOLLO: gradients scaled as a small random projection says"});
  visit({"apollo_target", group, &c.apollo_target, "APOLLO: linear layers, comma separated, or `all`", kCommaList});
  visit({"apollo_rank", group, &c.apollo_rank, "APOLLO: rank of the projection", rank});
  visit({"apollo_update_interval", group, &c.apollo_update_interval, "APOLLO: updates between two projections", count});
  visit({"apollo_scale", group, &c.apollo_scale, "APOLLO: its root multiplies an update", scale});
  visit({"apollo_proj", group, &c.apollo_proj, "APOLLO: random projection, or singular vectors", one_of({"svd", "random"})});
  visit({"apollo_proj_type", group, &c.apollo_proj_type, "APOLLO: side of a matrix that is cut to the rank",
         one_of({"std", "right", "left"})});
  visit(
      {"apollo_scale_type", group, &c.apollo_scale_type, "APOLLO: a scale per channel, or one per matrix", one_of({"channel", "tensor"})});
  visit({"apollo_layerwise", group, &c.apollo_layerwise, "APOLLO: gradients are not clipped, as in updates layer by layer"});
  visit({"apollo_scale_front", group, &c.apollo_scale_front, "APOLLO: scale before the growth of the norm is limited"});
  visit({"use_badam", group, &c.use_badam, "BAdam: layers, or shares of all weights, train in turn"});
  visit({"badam_mode", group, &c.badam_mode, "BAdam: by layers, or by shares of each parameter", one_of({"layer", "ratio"})});
  visit({"badam_start_block", group, &c.badam_start_block, "BAdam: the first layer, from 0; null: as badam_switch_mode says",
         between(0, 65536)});
  visit({"badam_switch_mode", group, &c.badam_switch_mode, "BAdam: order of the layers",
         one_of({"ascending", "descending", "random", "fixed"})});
  visit({"badam_switch_interval", group, &c.badam_switch_interval, "BAdam: updates of a layer before the next; -1: no other",
         between(-1, kMost)});
  visit({"badam_update_ratio", group, &c.badam_update_ratio, "BAdam: share of each parameter that trains at a time", between(1e-6, 1)});
  visit({"badam_mask_mode", group, &c.badam_mask_mode, "BAdam: neighbours, or elements drawn", one_of({"adjacent", "scatter"})});
  visit({"use_adam_mini", group, &c.use_adam_mini, "Adam-mini: AdamW with one second moment per head or row"});
  visit({"use_muon", group, &c.use_muon, "Muon: orthogonal steps for the matrices of the layers"});
}

void describe_run(TrainConfig& c, const OptionVisitor& visit) {
  visit({"output_dir", "run", &c.output_dir, "folder of the adapter, checkpoints and logs"});
  visit({"overwrite_output_dir", "run", &c.overwrite_output_dir, "start anew in a folder that holds a run"});
  visit({"do_train", "run", &c.do_train, "train; null: yes where dataset is given"});
  visit({"do_eval", "run", &c.do_eval, "evaluate at the end"});
  visit({"per_device_train_batch_size", "run", &c.per_device_train_batch_size, "examples in a micro-batch", between(1, 1e6)});
  visit({"per_device_eval_batch_size", "run", &c.per_device_eval_batch_size, "examples in an evaluation batch", between(1, 1e6)});
  visit({"gradient_accumulation_steps", "run", &c.gradient_accumulation_steps, "micro-batches per update", between(1, 1e6)});
  visit({"batching_strategy", "run", &c.batching_strategy,
         "micro-batches of per_device_train_batch_size examples (normal), or of as many as cutoff_len times that number of tokens holds: "
         "padded to the longest (dynamic_batching), or without padding (dynamic_padding_free)",
         one_of({"normal", "dynamic_batching", "dynamic_padding_free"})});
  visit({"device", "run", &c.device,
         "where it computes: on the CPU, or on a GPU (docs/cuda.md says what it has kernels for); auto: on a GPU where there is one "
         "that can",
         one_of({"auto", "cpu", "cuda"})});
  visit({"gradient_checkpointing", "run", &c.gradient_checkpointing,
         "compute activations once more in the backward instead of keeping them; true: those of whole blocks; mlp: of gate and up; "
         "auto: as few as memory allows, over a quantised base at least mlp",
         one_of({"auto", "true", "false", "mlp"})});
  visit({"share_prefixes", "run", &c.share_prefixes,
         "tokens that samples of a micro-batch begin with alike are computed once; auto: in stages dpo, kto, rm and grpo",
         one_of({"auto", "true", "false"})});
  visit({"memory_limit", "run", &c.memory_limit, "most memory that the process may take, like 800MiB or 2GB; null: what the machine has"});
  visit({"auto_find_batch_size", "run", &c.auto_find_batch_size, "halve per_device_train_batch_size until the run fits into memory"});
  visit({"num_train_epochs", "run", &c.num_train_epochs, "passes over the data; may be a fraction", between(0, 1e6)});
  visit({"max_steps", "run", &c.max_steps, "updates; wins over num_train_epochs when positive", between(-1, kMost)});
  visit({"seed", "run", &c.seed, "seed of everything random", between(0, UINT32_MAX)});
  visit({"data_seed", "run", &c.data_seed, "seed of the order of examples; null: seed", between(0, 9007199254740992)});
  visit({"ignore_data_skip", "run", &c.ignore_data_skip, "a resumed run takes the data of its epoch from the start again"});
  visit({"resume_from_checkpoint",
         "run",
         &c.resume_from_checkpoint,
         "checkpoint folder to go on from; true: the newest in output_dir; null: the same where there is one",
         {.yes_or_text = true}});
  visit({"bf16", "run", &c.bf16, "compute in bfloat16; adapters and optimizer stay in float32"});
  visit({"pure_bf16", "run", &c.pure_bf16, "the same as bf16: what is trained stays in float32"});
  visit({"fp16", "run", &c.fp16, "taken for GPUs' sake: computed in float32, which is exacter"});
  visit({"bf16_full_eval", "run", &c.bf16_full_eval, "evaluations while training are computed in bfloat16"});
  visit({"fp16_full_eval", "run", &c.fp16_full_eval, "taken for GPUs' sake: evaluations stay as training computes"});
  visit({"quant_aware", "run", &c.quant_aware,
         "train for the GGUF of this type that is exported afterwards (q4_k_m, …): the forward goes through the codes that export writes "
         "of base "
         "and adapter, and evaluations are those of that file"});
  visit({"quant_aware_steps", "run", &c.quant_aware_steps, "updates after which its codes are made anew", between(1, 1000000)});
  visit({"frozen_matmul", "run", &c.frozen_matmul,
         "products of the frozen linear layers: exact, in the type of the base; int8, both sides rounded row by row, or, of packed weights "
         "that are asked and not trained, activations alone, by blocks of 32",
         one_of({"exact", "int8"})});
  visit({"push_to_hub", "run", &c.push_to_hub,
         "upload what is saved at the end to Hugging Face's hub, or with USE_MODELSCOPE_HUB=1 to ModelScope's (docs/hub.md)"});
  visit({"hub_model_id", "run", &c.hub_model_id,
         "repository of the upload: org/name, or name; null: the name of output_dir, of the token's account"});
  visit({"hub_token", "run", &c.hub_token, "access token of uploads to Hugging Face's hub; null: hf_hub_token", kSecret});
  visit({"hub_private_repo", "run", &c.hub_private_repo, "a repository that the upload makes is private; null: as the account makes them"});
  visit({"hub_revision", "run", &c.hub_revision,
         "branch of the upload, made when it is not there, but for ModelScope's; null: main (ModelScope: master)"});
  visit({"hub_strategy", "run", &c.hub_strategy, "when to upload; whatever it is, once, at the end",
         one_of({"end", "every_save", "checkpoint", "all_checkpoints"})});
  visit({"dry_run", "run", &c.dry_run, "print the tables of parameters, memory and data, and stop"});

  visit(
      {"label_smoothing_factor", "optimizer", &c.label_smoothing_factor, "share of the loss that goes to all tokens alike", between(0, 1)});
  visit({"use_dft_loss", "optimizer", &c.use_dft_loss, "DFT: the loss of a token times the probability that it has"});
  visit({"use_asft_loss", "optimizer", &c.use_asft_loss, "ASFT: that, and the divergence from the base before training"});
  visit({"asft_alpha", "optimizer", &c.asft_alpha, "ASFT: weight of the divergence", between(0, 1e6)});
  visit({"use_eaft_loss", "optimizer", &c.use_eaft_loss, "EAFT: the loss of a token times the entropy of what the model expects there"});
  visit({"eaft_alpha", "optimizer", &c.eaft_alpha, "EAFT: power of the entropy", between(0, 100)});
  visit({"optim", "optimizer", &c.optim, "optimizer (docs/optimizers.md)", one_of(optimizer_names(), built_optimizer_names())});
  visit({"optim_args", "optimizer", &c.optim_args, "settings of that optimizer: key=value, comma separated", kCommaList});
  describe_more_optimizers(c, visit);
  visit({"learning_rate", "optimizer", &c.learning_rate, "peak learning rate", between(0, 1e6)});
  visit({"weight_decay", "optimizer", &c.weight_decay, "decoupled weight decay", between(0, 1e6)});
  visit({"adam_beta1", "optimizer", &c.adam_beta1, "decay of the first moment", from_to_below(0, 1)});
  visit({"adam_beta2", "optimizer", &c.adam_beta2, "decay of the second moment", from_to_below(0, 1)});
  visit({"adam_epsilon", "optimizer", &c.adam_epsilon, "added to the denominator", between(0, 1)});
  visit({"max_grad_norm", "optimizer", &c.max_grad_norm, "the global gradient norm is clipped to this; 0: never", between(0, kMost)});
  visit({"lr_scheduler_type", "optimizer", &c.lr_scheduler_type, "shape of the learning rate over the run",
         one_of({"linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
                 "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", "greedy"},
                {"linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
                 "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay"})});
  visit({"lr_scheduler_kwargs",
         "optimizer",
         &c.lr_scheduler_kwargs,
         "settings of that shape, such as min_lr_rate or num_cycles",
         {.json = true}});
  visit({"warmup_steps", "optimizer", &c.warmup_steps, "updates of warm-up; below 1 a share of all updates", kShareOrCount});
  visit({"warmup_ratio", "optimizer", &c.warmup_ratio, "warm-up as a share of all updates; wins over warmup_steps", from_to_below(0, 1)});
}

void describe_records(TrainConfig& c, const OptionVisitor& visit) {
  visit({"logging_steps",
         "logging, saving, evaluation",
         &c.logging_steps,
         "updates between two log lines; below 1 a share of all",
         {.lowest = 0, .highest = kMost, .above_lowest = true, .share_or_count = true}});
  visit({"logging_strategy", "logging, saving, evaluation", &c.logging_strategy, "when the loss is logged",
         one_of({"no", "steps", "epoch"})});
  visit({"logging_first_step", "logging, saving, evaluation", &c.logging_first_step, "log the first update too"});
  visit({"save_strategy", "logging, saving, evaluation", &c.save_strategy, "when checkpoints are written",
         one_of({"no", "steps", "epoch", "best"})});
  visit({"save_steps", "logging, saving, evaluation", &c.save_steps, "updates between two checkpoints; below 1 a share of all",
         kShareOrCount});
  visit({"save_total_limit", "logging, saving, evaluation", &c.save_total_limit, "how many checkpoints are kept", between(1, kMost)});
  visit({"save_only_model", "logging, saving, evaluation", &c.save_only_model,
         "checkpoints without optimizer state; such a run cannot be resumed"});
  visit({"eval_strategy", "logging, saving, evaluation", &c.eval_strategy, "when to evaluate while training",
         one_of({"no", "steps", "epoch"})});
  visit(
      {"eval_steps", "logging, saving, evaluation", &c.eval_steps, "updates between two evaluations; null: logging_steps", kShareOrCount});
  visit({"eval_on_start", "logging, saving, evaluation", &c.eval_on_start, "evaluate once before training"});
  visit({"eval_delay", "logging, saving, evaluation", &c.eval_delay,
         "no evaluation before this many updates, or epochs with eval_strategy: epoch", between(0, kMost)});
  visit({"load_best_model_at_end", "logging, saving, evaluation", &c.load_best_model_at_end, "end with the best checkpoint"});
  visit({"metric_for_best_model", "logging, saving, evaluation", &c.metric_for_best_model, "what best means; null: the evaluation loss"});
  visit({"greater_is_better", "logging, saving, evaluation", &c.greater_is_better, "larger is better; null: by the metric's name"});
}

void describe_reports(TrainConfig& c, const OptionVisitor& visit) {
  const std::string group = "logging, saving, evaluation";
  visit({"report_to", group, &c.report_to,
         "the log for other programs, comma separated: tensorboard (event files), jsonl, wandb, mlflow, swanlab, trackio (files that "
         "report/send.py sends); none; all",
         kCommaList});
  visit({"run_name", group, &c.run_name, "name of the run in trackers; null: the last part of output_dir"});
  visit({"logging_dir", group, &c.logging_dir, "folder of TensorBoard's event files; null: TENSORBOARD_LOGGING_DIR, else output_dir/runs"});
  visit({"project", group, &c.project, "trackio: the project"});
  visit({"trackio_space_id", group, &c.trackio_space_id, "trackio: the Space that it is sent to; null: this machine"});
  visit({"trackio_bucket_id", group, &c.trackio_bucket_id, "trackio: the bucket that keeps it"});
  visit({"use_swanlab", group, &c.use_swanlab, "the same as swanlab in report_to"});
  visit({"swanlab_project", group, &c.swanlab_project, "swanlab: the project"});
  visit({"swanlab_workspace", group, &c.swanlab_workspace, "swanlab: the workspace"});
  visit({"swanlab_run_name", group, &c.swanlab_run_name, "swanlab: name of the run; null: run_name"});
  visit({"swanlab_mode", group, &c.swanlab_mode, "swanlab: where send.py sends it", one_of({"cloud", "local"})});
  visit({"swanlab_logdir", group, &c.swanlab_logdir, "swanlab: folder of its own files"});
}

void describe_generation_and_export(TrainConfig& c, const OptionVisitor& visit) {
  visit({"do_sample", "generation", &c.do_sample, "sample; false: always the likeliest token"});
  visit({"temperature", "generation", &c.temperature, "softmax temperature; 0: always the likeliest token", between(0, 100)});
  visit({"top_p", "generation", &c.top_p, "sample among the likeliest tokens of this total probability", between(0, 1)});
  visit({"top_k", "generation", &c.top_k, "sample among the k likeliest tokens; 0: all", between(0, kMost)});
  visit({"max_new_tokens", "generation", &c.max_new_tokens, "longest answer in tokens", between(1, kMost)});
  visit({"repetition_penalty", "generation", &c.repetition_penalty, "divides the logits of tokens that are there already; 1: off",
         between(1e-3, 1e3)});
  visit({"num_beams", "generation", &c.num_beams, "answers that are followed at once, of which the likeliest is given; 1: no beam search",
         between(1, 32)});
  visit({"length_penalty", "generation", &c.length_penalty,
         "beam search: an answer's log-probability is divided by its length to this power; above 0 favours long ones", between(-100, 100)});
  visit({"skip_special_tokens", "generation", &c.skip_special_tokens, "special tokens are not shown"});

  visit({"export_dir", "export", &c.export_dir, "folder that the merged model is written to"});
  visit({"export_size", "export", &c.export_size, "largest file in GB (10^9 bytes)", between(1, 1e6)});
  visit({"export_device", "export", &c.export_device, "where the merge runs", one_of({"cpu", "auto"})});
  visit({"export_legacy_format", "export", &c.export_legacy_format, "write pytorch_model.bin instead of model.safetensors"});
  visit({"export_hub_model_id", "export", &c.export_hub_model_id,
         "repository of a hub, as in push_to_hub, that the merged model is uploaded to as well"});
}

}  // namespace

void describe(TrainConfig& config, const OptionVisitor& visit) {
  describe_model_and_data(config, visit);
  describe_method(config, visit);
  describe_preferences(config, visit);
  describe_decisions(config, visit);
  describe_grpo(config, visit);
  describe_run(config, visit);
  describe_records(config, visit);
  describe_reports(config, visit);
  describe_generation_and_export(config, visit);
}

std::vector<Option> options_of(TrainConfig& config) {
  std::vector<Option> options;
  describe(config, [&](const Option& option) { options.push_back(option); });
  return options;
}

}  // namespace loraine
