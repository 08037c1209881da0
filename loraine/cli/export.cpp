// loraine export: merges adapters into their base and checks the result.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "loraine/adapters/peft_files.h"
#include "loraine/api/chat_format.h"
#include "loraine/api/new_tokens.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/compared_text.h"
#include "loraine/cli/export_gguf.h"
#include "loraine/cli/export_quantised.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/cli/template_files.h"
#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/export/check.h"
#include "loraine/export/merge.h"
#include "loraine/export/quantised.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/io/write_text_files.h"
#include "loraine/model/attach.h"
#include "loraine/model/finite.h"
#include "loraine/model/load.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/config/method.h"
#include "loraine/train/config/named_adapters.h"
#include "loraine/train/objectives/value_head.h"
#include "loraine/train/records/calibration.h"
#include "loraine/train/saving/push.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSeveral = "export merges all of them";

void check_folder(const TrainConfig& c, const std::string& folder) {
  std::error_code ignored;
  if (fs::equivalent(folder, c.model_name_or_path, ignored))
    throw Error(ErrorKind::usage, "export_dir " + folder + " is the base model itself", "choose another folder");
  for (const std::string& adapter : joined_adapters(c.adapter_name_or_path, kSeveral))
    if (fs::equivalent(folder, adapter, ignored))
      throw Error(ErrorKind::usage, "export_dir " + folder + " is the adapter itself", "choose another folder");
  if (!fs::exists(folder, ignored)) return;
  if (!fs::is_directory(folder, ignored)) throw Error(ErrorKind::usage, "export_dir " + folder + " is not a folder", "choose another name");
  settle_staged_files(folder);
  const bool empty = std::all_of(fs::directory_iterator(folder, ignored), fs::directory_iterator(), [](const fs::directory_entry& entry) {
    return is_staged_name(entry.path().filename().string());  // of an export under way
  });
  if (!empty && !c.overwrite_output_dir)
    throw Error(ErrorKind::usage, "export_dir " + folder + " is not empty", "choose another folder, or set overwrite_output_dir: true");
}

// A model that is written over goes before the new one comes: there may be no room for both.
void remove_model(const std::string& folder) {
  std::error_code ignored;
  fs::remove(folder + "/config.json", ignored);
  for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end; it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    std::error_code failed;
    const std::string bare = name.ends_with(".index.json") ? name.substr(0, name.size() - 11) : name;
    if ((bare.starts_with("model") && bare.ends_with(".safetensors")) || (bare.starts_with("pytorch_model") && bare.ends_with(".bin")))
      fs::remove(it->path(), failed);
    if (failed) throw Error(ErrorKind::io, it->path().string() + ": cannot be removed: " + failed.message(), "check permissions");
  }
}

// The files changed as the template asks; gives the Modelfile, and in `stop` what ends an answer.
std::string apply_template(const TrainConfig& c, const TemplateChoice& choice, ModelFiles& files, std::vector<int32_t>& stop) {
  if (choice.jinja) {
    files.chat_template = choice.jinja;
    files.chat_templates.clear();
  }
  ModelText text = open_text(files);
  if (!text.tokenizer) return "";
  input_warning(files.tokenizer_note, c.strict, ErrorKind::usage);
  if (!has_template(choice, text)) {
    if (!files.chat_templates.empty()) print_stderr(std::string("note: no Modelfile is written: ") + no_chat_template(files).what() + "\n");
    return "";
  }
  if (const auto error = unfit_template(choice, text)) input_warning(error->what() + std::string(kSpelled), c.strict, error->kind);
  SpecialTokens special = special_tokens_of(files, *text.tokenizer);
  if (choice.eos_token && text.tokenizer->token_to_id(*choice.eos_token)) special.eos = text.tokenizer->token_to_id(*choice.eos_token);
  try {
    const Template chat =
        choice.name ? named_template(*choice.name, choice.default_system) : derive_template(*text.chat_template, *text.tokenizer);
    apply_template_tokens(chat, *text.tokenizer, special, embedding_rows(files));
    stop = special.stop;
    if (choice.name) apply_template_to_files(files, chat, *text.tokenizer, special, "left");
    else if (choice.jinja) write_special_tokens(files, *text.tokenizer, special);
    return modelfile_of_template(chat, *text.tokenizer, special);
  } catch (const Error& error) {
    if (choice.name) throw;  // a chat template that falls into no slots only costs the Modelfile
    print_stderr(std::string("note: no Modelfile is written: ") + error.what() + "\n");
    return "";
  }
}

void write_text_files(const ModelFiles& files, const TemplateChoice& choice, const std::string& modelfile, const std::string& folder) {
  write_tokenizer_files(files, folder);
  if (choice.name)
    write_training_record({choice.name, choice.default_system, choice.enable_thinking, "", choice.tool_format, choice.preserve_thinking},
                          folder);
  if (!modelfile.empty()) write_file(folder + "/Modelfile", modelfile);
  write_config_files(files, files.config, folder);
}

// A GGUF has no place for the head of a reward model: llama.cpp reads none of that kind.
void check_no_value_head(const GgufOptions& gguf, const std::string& base, const std::vector<std::string>& adapters) {
  if (gguf.export_format == "huggingface") return;
  std::vector<std::string> folders = adapters;
  folders.push_back(base);
  for (const std::string& folder : folders)
    if (const auto file = value_head_file(folder))
      throw Error(ErrorKind::unsupported,
                  fmt::format("export_format is {}, and {} makes this a reward model (stage rm), whose scores a GGUF has no place for: "
                              "llama.cpp knows no value head",
                              gguf.export_format, *file),
                  "export it with export_format: huggingface, and serve it with loraine; for the language model alone, take a copy of the "
                  "folder without that file");
}

// LoftQ's start without a run, as LLaMA-Factory's scripts/loftq_init.py makes it: the base becomes what is exported.
struct LoftqStart {
  LoraConfig config;
  AdapterSet adapter;
};
std::optional<LoftqStart> loftq_start(Model& model, const TrainConfig& c) {
  const LoraConfig config = method_config(c);
  if (!quantises_base(config) || !joined_adapters(c.adapter_name_or_path, kSeveral).empty()) return {};
  LoftqStart start{config, attach_adapter(model, config, false)};
  start_adapter(start.adapter, model, config, static_cast<uint64_t>(c.seed));
  return start;
}

// Beside the base that it is for: whoever loads it leaves that as it is.
void write_loftq_start(LoftqStart start, const std::string& folder, const std::string& place) {
  start.config.init_lora_weights = "true";
  start.config.base_model_name_or_path = fs::absolute(folder).lexically_normal().string();
  write_peft(start.adapter, start.config, place + "/loftq_init");
}

std::optional<Dtype> written_type(const TrainConfig& c) {
  if (c.infer_dtype == "auto") return {};
  return c.infer_dtype == "float32" ? Dtype::F32 : c.infer_dtype == "bfloat16" ? Dtype::BF16 : Dtype::F16;
}

// What rounding explains is far below this many times it; more is said aloud.
constexpr double kBeyondRounding = 10, kSmallestKl = 1e-3;

void print_logits(const LogitsReport& report, bool made_up) {
  std::string line = fmt::format("logits on {} {}: merged against base + adapter: {}", report.tokens,
                                 made_up ? "made-up tokens (no tokenizer)" : "tokens of text", divergence_text(report.merged));
  if (report.rounding) line += fmt::format("; of this by the rounding alone: {}", divergence_text(*report.rounding));
  print_stderr(line + "\n");
  if (report.merged.mean_kl > kSmallestKl + (report.rounding ? kBeyondRounding * report.rounding->mean_kl : 0))
    print_stderr(
        "warning: base + adapter answers differently by more than the rounding explains, though every written weight is right; please "
        "report it\n");
}

// Under the names that are there; older readers of config.json know torch_dtype alone.
void describe_type(Json& config, const std::string& name) {
  const bool newer = config.contains("dtype");
  if (newer) config["dtype"] = name;
  if (!newer || config.contains("torch_dtype")) config["torch_dtype"] = name;
}

}  // namespace

int run_export(const std::vector<std::string>& args) {
  const std::atomic<bool> never{false};
  return run_export(args, never);
}

int run_export(const std::vector<std::string>& args, const std::atomic<bool>& stop) {
  TrainConfig config;
  GgufOptions gguf;
  CalibratedOptions calibrated;
  std::vector<Option> extra = options_of_gguf(gguf);
  for (Option& option : options_of_calibration(calibrated)) extra.push_back(std::move(option));
  if (!read_config(args, "export", config, extra)) return 0;
  check_gguf_options(gguf, config, calibrated.export_quantization_dataset.has_value());
  check_calibrated_options(calibrated, config, gguf.export_format != "huggingface");
  std::string folder = config.export_dir.value_or("");
  check_folder(config, folder);
  ModelFiles files = open_model_files(config.model_name_or_path, hub_access(config));
  print_place(files.place_note);
  print_place(stretch_positions(files, config, false));
  if (adds_tokens(config)) {
    ModelText text = open_text(files);
    print_place(add_new_tokens(files, text, config));
  }
  std::vector<std::string> adapters;
  for (const FoundPlace& place : adapter_places(config, kSeveral)) {
    print_place(place.note);
    adapters.push_back(place.path);
  }
  check_no_value_head(gguf, files.path, adapters);
  std::optional<Push> push_target;
  if (config.export_hub_model_id) push_target = prepare_push(config, *config.export_hub_model_id, folder);
  if (push_target) push_target->target.message = "Upload of the merged model";
  const TemplateChoice choice = choose_template(config, files, adapters);
  input_warning(choice.warning, config.strict, ErrorKind::usage);
  std::vector<int32_t> stop_ids;
  const std::string modelfile = apply_template(config, choice, files, stop_ids);
  input_warning(quantised_already(files, config), config.strict, ErrorKind::usage);
  LoadOptions options = load_options(config);
  options.whole_experts = true;  // no file of quantised experts is known
  options.bf16 = false;          // what is merged is what is stored
  Model model = load_model(files, options);
  model.read_once = true;
  input_warning(untied_text(model), config.strict, ErrorKind::bad_data);
  input_warning(not_finite_text(model), config.strict, ErrorKind::numeric);
  std::optional<LoftqStart> start = loftq_start(model, config);
  std::vector<AdapterSet> sets;
  check_side_by_side(adapters);
  for (const std::string& path : adapters) {
    LoraConfig lora;
    sets.push_back(load_adapter(model, path, &lora));
    for (const auto& [kind, text] : adapter_warnings(lora, path, files)) input_warning(text, config.strict, kind);
  }
  std::vector<const AdapterSet*> all;
  for (const AdapterSet& set : sets) all.push_back(&set);
  AdapterSet joined;
  if (all.size() > 1) joined = combine_adapters(all, model.sites());
  const AdapterSet* adapter = all.empty() ? nullptr : all.size() == 1 ? all[0] : &joined;
  const auto keep_going = [&] { return !stop; };
  if (gguf.export_format != "huggingface") {
    const int code = export_gguf({gguf, config, files, model, adapter, folder, modelfile, stop_ids, keep_going, calibrated.text()});
    if (code == 0 && push_target) print_stderr(push(*push_target) + "\n");
    return code;
  }
  const auto write_beside = [&](const std::string& place) {
    write_text_files(files, choice, modelfile, place);
    const std::string& last = adapters.empty() ? files.path : adapters.back();
    if (ValueHead head(model.config.hidden_size); head.read_if_there(last)) {
      head.write(place);
      print_stderr(fmt::format("{} of the reward model goes with it\n", kValueHeadFile));
    }
    if (const auto calibration = read_calibration(last); calibration && adapters.size() < 2) {
      write_calibration(place, *calibration);
      print_stderr(fmt::format("{} goes with it: the temperature of its decisions\n", kCalibrationFile));
    }
  };
  remove_model(folder);
  if (calibrated.export_quantization_bit) {
    const int code = export_quantised({calibrated, config, files, model, adapter, written_type(config), folder, write_beside, keep_going});
    if (code == 0 && push_target) print_stderr(push(*push_target) + "\n");
    return code;
  }
  const std::unique_ptr<Merge> merge = plan_merge(model, adapter, written_type(config));
  StagedFiles files_out(folder);
  const std::string& place = files_out.path();
  int64_t shards = 0;
  try {
    shards = write_merge(*merge, place, {config.export_size * 1000000000, config.export_legacy_format}, keep_going);
    check_written(*merge, place, keep_going);
  } catch (const Stopped&) {
    print_stderr("stopped; " + folder + " holds no model\n");
    return kExitStopped;
  } catch (const Error& error) { throw Error(error.kind, error.what() + std::string("; ") + folder + " holds no model", error.hint); }
  if (adapter && unties(model, *adapter)) files.config["tie_word_embeddings"] = false;
  describe_quantisation(files.config, model);
  if (written_type(config)) describe_type(files.config, config.infer_dtype);
  write_beside(place);
  const ComparedText text = compared_text(files, model);
  const LogitsReport report = compare_logits(*merge, place, text.ids);
  if (!report.not_finite.empty())
    throw Error(ErrorKind::numeric, report.not_finite + ", so " + folder + " holds no model",
                "look for NaN and infinity in the base and the adapters");
  const bool loftq = start.has_value();
  if (start) write_loftq_start(std::move(*start), folder, place);
  files_out.commit();
  print_stderr(fmt::format("merged {} of {} tensors into {} ({} file{})\n", merge->merged(), merge->weights.size(), folder, shards,
                           shards == 1 ? "" : "s"));
  print_stderr(fmt::format("check: {} tensors read back; {} computed, each the exact sum of base and adapter rounded once\n",
                           merge->weights.size(), merge->computed.size()));
  print_logits(report, text.made_up);
  if (!modelfile.empty()) print_stderr("template: " + choice.text() + "\n");
  if (loftq) print_stderr(fmt::format("LoftQ's start over this base: {}/loftq_init\n", folder));
  if (push_target) print_stderr(push(*push_target) + "\n");
  return 0;
}

}  // namespace loraine
