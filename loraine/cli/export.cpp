// loraine export: merges adapters into their base and checks the result.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "loraine/adapters/peft_files.h"
#include "loraine/cli/arguments.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/template_files.h"
#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/export/merge.h"
#include "loraine/export/quantised.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/io/write_text_files.h"
#include "loraine/model/attach.h"
#include "loraine/model/finite.h"
#include "loraine/model/load.h"
#include "loraine/train/load_options.h"
#include "loraine/train/method.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

void check_folder(const TrainConfig& c, const std::string& folder) {
  std::error_code ignored;
  if (fs::equivalent(folder, c.model_name_or_path, ignored))
    throw Error(ErrorKind::usage, "export_dir " + folder + " is the base model itself", "choose another folder");
  for (const std::string& adapter : split_list(c.adapter_name_or_path))
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

// Tokenizer, template and Modelfile. The template is the one named, else the one that the model's own chat template amounts to.
void write_text_files(const TrainConfig& c, ModelFiles& files, const std::string& folder) {
  ModelText text = open_text(files);
  std::string modelfile;
  if (text.tokenizer && (c.template_name || text.chat_template)) {
    SpecialTokens special = special_tokens_of(files, *text.tokenizer);
    try {
      Template chat = c.template_name ? named_template(*c.template_name) : derive_template(*text.chat_template, *text.tokenizer);
      apply_template_tokens(chat, *text.tokenizer, special);
      if (c.template_name) apply_template_to_files(files, chat, *text.tokenizer, special, "left");
      modelfile = modelfile_of_template(chat, *text.tokenizer, special);
    } catch (const Error& error) {
      if (c.template_name) throw;  // a chat template that falls into no slots only costs the Modelfile
      print_stderr(std::string("note: no Modelfile is written: ") + error.what() + "\n");
    }
  }
  write_config_files(files, folder);
  write_tokenizer_files(files, folder);
  if (!modelfile.empty()) write_file(folder + "/Modelfile", modelfile);
}

// LoftQ's start without a run, as LLaMA-Factory's scripts/loftq_init.py makes it: the base becomes what is exported.
struct LoftqStart {
  LoraConfig config;
  AdapterSet adapter;
};
std::optional<LoftqStart> loftq_start(Model& model, const TrainConfig& c) {
  const LoraConfig config = method_config(c);
  if (!quantises_base(config) || !split_list(c.adapter_name_or_path).empty()) return {};
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

// What rounding may move the logits by, as a share of the largest one: of what is merged, and of all weights where they are written
// narrower.
double share_of_rounding(Dtype stored, std::optional<Dtype> written) {
  if (written == Dtype::BF16 && stored != Dtype::BF16) return 0.2;
  return written.value_or(stored) == Dtype::F32 ? 1e-3 : 5e-2;
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
  if (!read_config(args, "export", config)) return 0;
  std::string folder = config.export_dir.value_or("");
  check_folder(config, folder);
  ModelFiles files = open_model_files(config.model_name_or_path);
  input_warning(quantised_already(files, config), config.strict, ErrorKind::usage);
  LoadOptions options = load_options(config);
  options.bf16 = false;  // what is merged is what is stored
  Model model = load_model(files, options);
  model.read_once = true;
  input_warning(not_finite_text(model), config.strict, ErrorKind::numeric);
  std::optional<LoftqStart> start = loftq_start(model, config);
  std::vector<AdapterSet> sets;
  check_side_by_side(split_list(config.adapter_name_or_path));
  for (const std::string& path : split_list(config.adapter_name_or_path)) {
    LoraConfig lora;
    sets.push_back(load_adapter(model, path, &lora));
    input_warning(base_mismatch(lora, path, config.model_name_or_path), config.strict, ErrorKind::usage);
  }
  std::vector<const AdapterSet*> all;
  for (const AdapterSet& set : sets) all.push_back(&set);
  AdapterSet joined;
  if (all.size() > 1) joined = combine_adapters(all, model.sites());
  const AdapterSet* adapter = all.empty() ? nullptr : all.size() == 1 ? all[0] : &joined;
  remove_model(folder);
  StagedFiles files_out(folder);
  MergeReport report;
  try {
    report = merge_to_folder(model, adapter, files_out.path(), {config.export_size * 1000000000, config.export_legacy_format},
                             written_type(config), [&] { return !stop; });
  } catch (const Stopped&) {
    print_stderr("stopped; " + folder + " holds no model\n");
    return kExitStopped;
  }
  if (adapter && unties(model, *adapter)) files.config["tie_word_embeddings"] = false;
  describe_quantisation(files.config, model);
  if (written_type(config)) describe_type(files.config, config.infer_dtype);
  write_text_files(config, files, files_out.path());
  check_merge(model, adapter, files_out.path(), report);
  const double tolerance = share_of_rounding(model.embedding.dtype, written_type(config)) * std::max(1.0, report.largest_logit);
  if (!(report.largest_difference <= tolerance)) {
    if (!std::isfinite(report.largest_difference))
      throw Error(ErrorKind::numeric, folder + ": the logits of the merged model are not finite numbers, so it is not written",
                  "look for NaN and infinity in the base and the adapters");
    throw Error(ErrorKind::internal,
                fmt::format("{}: the merged model differs from base + adapter by {:.3g} in its logits, more than {:.3g}, so it is "
                            "not written",
                            folder, report.largest_difference, tolerance),
                "this is a bug in loraine or a fault of the disk, please report it");
  }
  const bool loftq = start.has_value();
  if (start) write_loftq_start(std::move(*start), folder, files_out.path());
  files_out.commit();
  print_stderr(fmt::format("merged {} of {} tensors into {} ({} file{})\n", report.merged, report.tensors, folder, report.shards,
                           report.shards == 1 ? "" : "s"));
  print_stderr(fmt::format("check: largest difference of logits, merged against base + adapter: {:.3g} (tolerance {:.3g})\n",
                           report.largest_difference, tolerance));
  if (loftq) print_stderr(fmt::format("LoftQ's start over this base: {}/loftq_init\n", folder));
  return 0;
}

}  // namespace loraine
