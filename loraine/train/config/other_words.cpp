// The table of other programs' words, and what becomes of a setting that uses one.
#include "loraine/train/config/other_words.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"

namespace loraine {
namespace {

constexpr const char* kBatchKey = "per_device_train_batch_size";
constexpr const char* kAccumulationKey = "gradient_accumulation_steps";

// The text of a setting whose value is a word; empty for another kind of value.
std::string word_of(const Setting& setting) {
  if (setting.bare) return "";
  if (!setting.typed) return setting.text;
  const Value value = Value::parse(setting.text);
  return value.is_string() ? value.get<std::string>() : "";
}

Setting implied(const Setting& from, const std::string& key, const std::string& value) {
  Setting setting = from;
  setting.key = key;
  setting.text = value;
  setting.typed = true;
  setting.bare = false;
  return setting;
}

const OtherWord* find_word(const std::string& key) {
  const auto found = std::ranges::find(other_words(), key, &OtherWord::word);
  return found == other_words().end() ? nullptr : &*found;
}

const OtherSwitch* find_switch(const std::string& key) {
  const auto found = std::ranges::find(other_switches(), key, &OtherSwitch::word);
  return found == other_switches().end() ? nullptr : &*found;
}

[[noreturn]] void unclear(const Setting& setting, const OtherWord& word) {
  throw Error(ErrorKind::usage,
              word.keys.empty()
                  ? fmt::format("{}: '{}' is no key of LLaMA-Factory", setting.where, word.word)
                  : fmt::format("{}: '{}' is not clear, it could be {}", setting.where, word.word, fmt::join(word.keys, " or ")),
              word.hint);
}

// `--no_KEY` of a word of others: the word, and false.
Setting without_no(const Setting& given) {
  if (!given.bare || !given.key.starts_with("no_")) return given;
  const std::string rest = given.key.substr(3);
  return find_word(rest) || find_switch(rest) ? implied(given, rest, "false") : given;
}

// One setting under LLaMA-Factory's key, nothing where it says nothing.
void add_own(const Setting& given, std::vector<Setting>& own, std::vector<std::string>& notes) {
  Setting setting = without_no(given);
  if (const OtherSwitch* one = find_switch(setting.key)) {
    const std::optional<bool> yes = yes_or_no(setting);
    const bool null = setting.typed && setting.text == "null";
    if (!yes && !null)
      throw Error(ErrorKind::usage, fmt::format("{}: {} is {}, expected true or false", setting.where, setting.key, setting.text),
                  fmt::format("say it as LLaMA-Factory does: {}: {}", one->yes.key, one->yes.value));
    const OtherSwitch::Side& side = yes.value_or(false) ? one->yes : one->no;
    if (null || side.key.empty()) return;
    setting.word = setting.key;
    notes.push_back(fmt::format("`{}: {}` is taken as `{}: {}`", one->word, *yes, side.key, side.value));
    own.push_back(implied(setting, side.key, side.value));
    return;
  }
  if (const OtherWord* one = find_word(setting.key)) {
    if (one->keys.size() != 1) unclear(setting, *one);
    setting.word = setting.key;
    setting.key = one->keys.front();
    notes.push_back(fmt::format("`{}` is taken as `{}`", one->word, setting.key));
  }
  own.push_back(std::move(setting));
}

// batch_size is that of a micro-batch in some programs and that of an update in others: the same while nothing is accumulated.
void check_batch_sizes(const std::vector<Setting>& settings) {
  const auto accumulates = [](const Setting& s) { return s.key == kAccumulationKey && !s.bare && s.text != "1" && s.text != "null"; };
  const auto sizes = [](const Setting& s) { return s.key == kBatchKey && s.word.ends_with("batch_size") && !s.word.starts_with("micro"); };
  const auto size = std::ranges::find_if(settings, sizes);
  if (size == settings.end() || std::ranges::none_of(settings, accumulates)) return;
  throw Error(ErrorKind::usage,
              fmt::format("{}: '{}' is not clear beside {}: it could be {}, or that times {}", size->where, size->word, kAccumulationKey,
                          kBatchKey, kAccumulationKey),
              fmt::format("write {}, the examples in a micro-batch", kBatchKey));
}

}  // namespace

const std::vector<OtherWord>& other_words() {
  static const std::vector<OtherWord> words = {
      // model
      {"model", {"model_name_or_path"}},
      {"base_model", {"model_name_or_path"}},
      {"model_name", {"model_name_or_path"}},
      {"model_id", {"model_name_or_path"}},
      {"model_path", {"model_name_or_path"}},
      {"model_dir", {"model_name_or_path"}},
      {"model_id_or_path", {"model_name_or_path"}},
      {"base_model_name_or_path", {"model_name_or_path"}},
      {"pretrained_model_name_or_path", {"model_name_or_path"}},
      {"adapters", {"adapter_name_or_path"}},
      {"lora_path", {"adapter_name_or_path"}},
      {"lora_model_dir", {"adapter_name_or_path"}},
      {"peft_model", {"adapter_name_or_path"}},
      {"resume_adapter_file", {"adapter_name_or_path"}},
      {"adapter",
       {"finetuning_type", "adapter_name_or_path"},
       "finetuning_type is what is trained (lora, or qlora), adapter_name_or_path the folder of an adapter that is there"},
      {"adapter_path",
       {"adapter_name_or_path", "output_dir"},
       "adapter_name_or_path is the folder of an adapter that is there, output_dir where a new one goes"},
      {"dtype", {"bf16", "infer_dtype"}, "bf16: true trains in bfloat16, infer_dtype is what chat and eval compute in"},
      {"torch_dtype", {"bf16", "infer_dtype"}, "bf16: true trains in bfloat16, infer_dtype is what chat and eval compute in"},
      {"bits", {"quantization_bit"}},
      {"quant_bits", {"quantization_bit"}},
      {"quant_type", {"quantization_type"}},
      {"bnb_4bit_quant_type", {"quantization_type"}},
      {"double_quant", {"double_quantization"}},
      {"bnb_4bit_use_double_quant", {"double_quantization"}},
      {"quant_method", {"quantization_method"}},
      // data
      {"data", {"dataset"}},
      {"datasets", {"dataset"}},
      {"dataset_name", {"dataset"}},
      {"dataset_path", {"dataset"}},
      {"data_path", {"dataset"}},
      {"train_dataset", {"dataset"}},
      {"train_file", {"dataset"}},
      {"train_data", {"dataset"}},
      {"data_dir", {"dataset_dir"}},
      {"val_dataset", {"eval_dataset"}},
      {"validation_dataset", {"eval_dataset"}},
      {"validation_file", {"eval_dataset"}},
      {"test_dataset", {"eval_dataset"}},
      {"test_datasets", {"eval_dataset"}},
      {"eval_data", {"eval_dataset"}},
      {"val_set_size", {"val_size"}},
      {"val_split", {"val_size"}},
      {"validation_split", {"val_size"}},
      {"split_dataset_ratio", {"val_size"}},
      {"test_size", {"val_size"}},
      {"max_train_samples", {"max_samples"}},
      {"max_examples", {"max_samples"}},
      {"num_samples", {"max_samples"}},
      {"chat_template", {"template"}},
      {"prompt_template", {"template"}},
      {"conversation_template", {"template"}},
      {"system", {"default_system"}},
      {"system_prompt", {"default_system"}},
      {"system_message", {"default_system"}},
      {"max_seq_length", {"cutoff_len"}},
      {"max_seq_len", {"cutoff_len"}},
      {"max_sequence_length", {"cutoff_len"}},
      {"model_max_length", {"cutoff_len"}},
      {"sequence_len", {"cutoff_len"}},
      {"sequence_length", {"cutoff_len"}},
      {"seq_length", {"cutoff_len"}},
      {"seq_len", {"cutoff_len"}},
      {"context_length", {"cutoff_len"}},
      {"block_size", {"cutoff_len"}},
      {"sample_packing", {"packing"}},
      {"train_on_inputs", {"train_on_prompt"}},
      // method
      {"fine_tune_type", {"finetuning_type"}},
      {"finetune_type", {"finetuning_type"}},
      {"train_type", {"finetuning_type"}},
      {"tuner_type", {"finetuning_type"}},
      {"sft_type", {"finetuning_type"}},
      {"peft_type", {"finetuning_type"}},
      {"r", {"lora_rank"}},
      {"rank", {"lora_rank"}},
      {"lora_r", {"lora_rank"}},
      {"lora_dim", {"lora_rank"}},
      {"alpha", {"lora_alpha"}},
      {"dropout", {"lora_dropout"}},
      {"scale", {}, "set lora_alpha to the scale times lora_rank"},
      {"lora_parameters", {}, "write lora_rank, lora_alpha (the scale times the rank) and lora_dropout as keys of their own"},
      {"num_layers", {}, "layers_to_transform lists the numbers of the layers that get an adapter, from 0"},
      {"lora_layers", {}, "layers_to_transform lists the numbers of the layers that get an adapter, from 0"},
      {"target_modules", {"lora_target"}},
      {"lora_target_modules", {"lora_target"}},
      {"lora_modules", {"lora_target"}},
      {"modules_to_save", {"additional_target"}},
      {"lora_modules_to_save", {"additional_target"}},
      {"lora_use_rslora", {"use_rslora"}},
      {"peft_use_rslora", {"use_rslora"}},
      {"peft_use_dora", {"use_dora"}},
      {"lora_init", {"init_lora_weights"}},
      {"init_weights", {"init_lora_weights"}},
      {"peft_init_lora_weights", {"init_lora_weights"}},
      {"neftune_alpha", {"neftune_noise_alpha"}},
      {"noisy_embedding_alpha", {"neftune_noise_alpha"}},
      {"lora_plus_lr_ratio", {"loraplus_lr_ratio"}},
      {"lorap_lr_ratio", {"loraplus_lr_ratio"}},
      {"early_stopping", {"early_stopping_steps"}},
      {"early_stopping_patience", {"early_stopping_steps"}},
      {"early_stopping_threshold", {}, "leave it out: any gain counts, and early_stopping_steps evaluations without one end the run"},
      // run
      {"output", {"output_dir"}},
      {"output_path", {"output_dir"}},
      {"out_dir", {"output_dir"}},
      {"save_dir", {"output_dir"}},
      {"save_path", {"output_dir", "export_dir"}, "output_dir is where a run writes, export_dir where export writes the merged model"},
      {"overwrite_output", {"overwrite_output_dir"}},
      {"train", {"do_train"}},
      {"batch_size", {kBatchKey}},
      {"train_batch_size", {kBatchKey}},
      {"global_batch_size", {kBatchKey}},
      {"total_batch_size", {kBatchKey}},
      {"effective_batch_size", {kBatchKey}},
      {"per_device_batch_size", {kBatchKey}},
      {"micro_batch_size", {kBatchKey}},
      {"train_micro_batch_size", {kBatchKey}},
      {"eval_batch_size", {"per_device_eval_batch_size"}},
      {"val_batch_size", {"per_device_eval_batch_size"}},
      {"grad_accum", {kAccumulationKey}},
      {"grad_accum_steps", {kAccumulationKey}},
      {"grad_accumulation_steps", {kAccumulationKey}},
      {"gradient_accumulation", {kAccumulationKey}},
      {"accumulate_grad_batches", {kAccumulationKey}},
      {"accumulation_steps", {kAccumulationKey}},
      {"grad_checkpoint", {"gradient_checkpointing"}},
      {"use_gradient_checkpointing", {"gradient_checkpointing"}},
      {"activation_checkpointing", {"gradient_checkpointing"}},
      {"enable_activation_checkpointing", {"gradient_checkpointing"}},
      {"epochs", {"num_train_epochs"}},
      {"num_epochs", {"num_train_epochs"}},
      {"n_epochs", {"num_train_epochs"}},
      {"max_epochs", {"num_train_epochs"}},
      {"train_epochs", {"num_train_epochs"}},
      {"iters", {"max_steps"}},
      {"steps", {"max_steps"}},
      {"num_steps", {"max_steps"}},
      {"max_iters", {"max_steps"}},
      {"num_train_steps", {"max_steps"}},
      {"max_train_steps", {"max_steps"}},
      {"random_seed", {"seed"}},
      {"random_state", {"seed"}},
      {"manual_seed", {"seed"}},
      {"resume", {"resume_from_checkpoint"}},
      {"resume_from", {"resume_from_checkpoint"}},
      // optimizer
      {"optimizer", {"optim"}},
      {"lr", {"learning_rate"}},
      {"base_lr", {"learning_rate"}},
      {"max_lr", {"learning_rate"}},
      {"min_lr", {}, "lr_scheduler_type: cosine_with_min_lr with lr_scheduler_kwargs: {\"min_lr\": …} ends at it"},
      {"wd", {"weight_decay"}},
      {"eps", {"adam_epsilon"}},
      {"betas", {}, "write adam_beta1 and adam_beta2"},
      {"clip_grad_norm", {"max_grad_norm"}},
      {"gradient_clipping", {"max_grad_norm"}},
      {"grad_clip", {"max_grad_norm"}},
      {"scheduler", {"lr_scheduler_type"}},
      {"lr_scheduler", {"lr_scheduler_type"}},
      {"lr_schedule", {"lr_scheduler_type"}},
      {"scheduler_type", {"lr_scheduler_type"}},
      {"warmup", {"warmup_steps"}},
      {"num_warmup_steps", {"warmup_steps"}},
      {"lr_warmup_steps", {"warmup_steps"}},
      {"warmup_iters", {"warmup_steps"}},
      {"lr_warmup_ratio", {"warmup_ratio"}},
      {"label_smoothing", {"label_smoothing_factor"}},
      // logging, saving, evaluation
      {"log_steps", {"logging_steps"}},
      {"log_interval", {"logging_steps"}},
      {"log_every_n_steps", {"logging_steps"}},
      {"steps_per_report", {"logging_steps"}},
      {"save_every", {"save_steps"}},
      {"save_interval", {"save_steps"}},
      {"save_every_n_steps", {"save_steps"}},
      {"steps_per_save", {"save_steps"}},
      {"saves_per_epoch", {}, "save_strategy: epoch saves once an epoch; save_steps below 1 is a share of all updates"},
      {"evaluation_strategy", {}, "its name is eval_strategy since transformers 4.46, and LLaMA-Factory knows no other"},
      {"eval_steps_strategy", {"eval_strategy"}},
      {"eval_every", {"eval_steps"}},
      {"eval_interval", {"eval_steps"}},
      {"evaluate_every", {"eval_steps"}},
      {"steps_per_eval", {"eval_steps"}},
      {"evals_per_epoch", {}, "eval_strategy: epoch evaluates once an epoch; eval_steps below 1 is a share of all updates"},
      // answers and examinations
      {"temp", {"temperature"}},
      {"max_tokens", {"max_new_tokens", "cutoff_len"}, "max_new_tokens is the longest answer, cutoff_len the longest training example"},
      {"max_gen_len", {"max_new_tokens"}},
      {"repeat_penalty", {"repetition_penalty"}},
      {"tasks", {"task"}},
      {"num_fewshot", {"n_shot"}},
  };
  return words;
}

const std::vector<OtherSwitch>& other_switches() {
  static const OtherSwitch::Side four = {"quantization_bit", "4"}, eight = {"quantization_bit", "8"}, all = {"lora_target", "\"all\""},
                                 lora = {"finetuning_type", "\"lora\""}, full = {"finetuning_type", "\"full\""},
                                 prompt = {"train_on_prompt", "true"}, no_prompt = {"train_on_prompt", "false"};
  static const std::vector<OtherSwitch> switches = {
      {"load_in_4bit", four},
      {"load_in_8bit", eight},
      {"use_qlora", four},
      {"qlora", four},
      {"lora_target_linear", all},
      {"use_lora", lora, full},
      {"use_peft", lora, full},
      {"full_finetuning", full},
      {"mask_prompt", no_prompt, prompt},
      {"train_on_responses_only", no_prompt, prompt},
      {"completion_only_loss", no_prompt, prompt},
      {"assistant_only_loss", no_prompt, prompt},
  };
  return switches;
}

const std::vector<OtherKind>& other_kinds() {
  static const std::vector<OtherKind> kinds = {
      {"qlora", "quantization_bit", "4"},
      {"dora", "use_dora", "true"},
      {"adalora", "use_adalora", "true"},
      {"rslora", "use_rslora", "true"},
      {"pissa", "pissa_init", "true"},
      {"olora", "init_lora_weights", "\"olora\""},
      {"loftq", "init_lora_weights", "\"loftq\""},
  };
  return kinds;
}

std::string own_key(const std::string& word) {
  const OtherWord* one = find_word(word);
  return one && one->keys.size() == 1 ? one->keys.front() : word;
}

std::vector<Setting> in_own_words(std::span<const Setting> settings, std::span<const Option> extra, std::vector<std::string>& notes) {
  std::vector<Setting> own;
  for (const Setting& setting : settings) {
    if (std::ranges::find(extra, setting.key, &Option::name) == extra.end()) add_own(setting, own, notes);
    else own.push_back(setting);
  }
  check_batch_sizes(own);
  std::set<std::string> given;
  for (const Setting& setting : own) given.insert(setting.key);
  std::ranges::stable_sort(own, {}, &Setting::source);
  const OtherKind* last = nullptr;  // later ones win
  for (Setting& setting : own) {
    if (setting.key != "finetuning_type") continue;
    const auto found = std::ranges::find(other_kinds(), lower_case(word_of(setting)), &OtherKind::kind);
    last = found == other_kinds().end() ? nullptr : &*found;
    if (last) setting = implied(setting, setting.key, "\"lora\"");
  }
  if (!last) return own;
  const bool is_given = given.contains(last->key);
  const std::string more = is_given ? fmt::format("; `{}` is given", last->key) : fmt::format(" with `{}: {}`", last->key, last->value);
  notes.push_back(fmt::format("`finetuning_type: {}` is taken as `finetuning_type: lora`{}", last->kind, more));
  if (!is_given)
    own.push_back(
        {.key = last->key, .text = last->value, .typed = true, .bare = false, .where = "finetuning_type: " + last->kind, .source = 2});
  return own;
}

}  // namespace loraine
