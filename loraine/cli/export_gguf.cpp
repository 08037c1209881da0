// One file, checked before it appears, and a Modelfile for Ollama beside it.
#include "loraine/cli/export_gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "loraine/cli/commands.h"
#include "loraine/cli/compared_text.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/progress.h"
#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/export/gguf.h"
#include "loraine/export/gguf_adapter.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/model/load.h"

namespace loraine {
namespace {

std::string base_name(const std::string& path) {
  const std::filesystem::path whole = std::filesystem::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

// Ollama takes finished files: FROM names this one. Without a template of slots it reads the file's own.
std::string ollama_modelfile(const GgufExport& what, const std::string& file) {
  std::string text = what.modelfile;
  if (text.empty()) return "FROM ./" + file + "\n\nPARAMETER num_ctx 4096\n";
  const std::string from = "FROM .\n";
  text.replace(text.find(from), from.size(), "FROM ./" + file + "\n");
  return text;
}

// Gives the name of the file, or of the first of its parts.
std::string export_model_gguf(const GgufExport& what, const GgufRecipe& recipe, const std::string& place, const std::string& file) {
  const std::unique_ptr<Merge> merge = plan_merge(what.model, what.adapter);
  std::vector<int32_t> stop = what.stop;
  for (const int32_t id : eos_token_ids(what.files, what.model.config))
    if (std::find(stop.begin(), stop.end(), id) == stop.end()) stop.push_back(id);
  const bool computed = !what.importance_text.dataset.empty();
  GgufPlan plan =
      plan_gguf(*merge, what.files, {stop, base_name(what.config.model_name_or_path)}, recipe, computed || what.options.gguf_imatrix);
  ImportanceMatrix importance;
  if (computed) {
    importance = importance_of(plan, calibration_chunks(what.importance_text, what.files, what.config), what.keep_going);
    importance.datasets = {what.importance_text.dataset};
    importance.chunk_size = what.importance_text.length;
    importance.file = "imatrix.gguf";
    write_importance_matrix(importance, place + "/imatrix.gguf");
  } else if (what.options.gguf_imatrix) {
    importance = read_importance_matrix(*what.options.gguf_imatrix);
  }
  if (!importance.entries.empty()) use_importance(plan, importance);
  for (const std::string& note : plan.keys.notes) print_stderr("note: " + note + "\n");
  const uint64_t part_bytes =
      what.config.given.contains("export_size") ? static_cast<uint64_t>(what.config.export_size) * 1000000000 : UINT64_MAX;
  const std::vector<std::string> paths = write_gguf(plan, place + "/" + file, part_bytes, what.keep_going);
  const std::string& path = paths.front();
  const std::map<std::string, GgufTypeReport> reports = check_gguf(plan, path, what.keep_going);
  const ComparedText text = compared_text(what.files, what.model);
  const LogitsReport logits = compare_logits(*merge, path, text.ids);
  std::string said;
  if (computed)
    said += fmt::format("importance matrix of {} tensors over {} chunks of {} tokens: {}/imatrix.gguf\n", importance.entries.size(),
                        importance.chunks, importance.chunk_size, what.folder);
  said += fmt::format("merged {} of {} tensors into {}/{} ({}, {} tensors)\n", merge->merged(), merge->weights.size(), what.folder, file,
                      plan.keys.architecture->name, plan.entries.size());
  for (const auto& [type, report] : reports)
    said += fmt::format("check: {} tensor{} read back as {}: at most {:.2g} of its size from base + adapter ({})\n", report.tensors,
                        report.tensors == 1 ? "" : "s", type, report.worst, report.worst_name);
  said += fmt::format("logits on {} {}: the file against base + adapter: {}\n", logits.tokens,
                      text.made_up ? "made-up tokens (no tokenizer)" : "tokens of text", divergence_text(logits.merged));
  print_stderr(said);
  if (!logits.merged.finite || !(logits.merged.mean_kl <= tolerated_kl(recipe)))
    throw Error(ErrorKind::numeric,
                fmt::format("the file answers otherwise than base + adapter: {}, and {} explains a mean KL of {:.2g}; {} holds no model",
                            divergence_text(logits.merged), recipe.name, tolerated_kl(recipe), what.folder),
                "choose a gguf_type of more bits; if f32 is refused too, please report it");
  const std::string first = std::filesystem::path(path).filename().string();
  if (paths.size() > 1)
    print_stderr(fmt::format("in {} parts: llama.cpp and loraine are given the first; no Modelfile is written, Ollama takes whole files\n",
                             paths.size()));
  else write_file(place + "/Modelfile", ollama_modelfile(what, file));
  return first;
}

}  // namespace

std::vector<Option> options_of_gguf(GgufOptions& options) {
  return {
      {"export_format",
       "export",
       &options.export_format,
       "huggingface: a folder; gguf: the merged model as one file for llama.cpp and Ollama; gguf_adapter: the adapter alone as such a file",
       {.choices = {"huggingface", "gguf", "gguf_adapter"}}},
      {"gguf_type",
       "export",
       &options.gguf_type,
       "how a GGUF stores its matrices",
       {.choices = {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"}}},
      {"gguf_imatrix", "export", &options.gguf_imatrix,
       "importance matrix (imatrix.gguf of llama.cpp) that blocks are made with; export_quantization_dataset computes one"}};
}

void check_gguf_options(const GgufOptions& options, const TrainConfig& config, bool with_texts) {
  const auto broken = [&](const std::string& what, const char* hint) {
    throw Error(ErrorKind::usage, "export_format is " + options.export_format + ", and " + what, hint);
  };
  if (options.gguf_imatrix && options.export_format != "gguf")
    broken("gguf_imatrix is given, which is for the blocks of a GGUF", "set export_format: gguf, or leave it out");
  if (options.export_format == "huggingface") return;
  if (options.gguf_imatrix && with_texts)
    broken("gguf_imatrix and export_quantization_dataset are both given, and the one is what the other would compute",
           "leave one of them out");
  if (with_texts && options.export_format == "gguf_adapter")
    broken("export_quantization_dataset is given, and adapters have no importance matrix", "leave it out");
  if ((options.gguf_imatrix || with_texts) && !gguf_recipe(options.gguf_type).quantised())
    broken(fmt::format("gguf_type is {}, whose numbers no importance matrix changes", options.gguf_type),
           "choose a type of blocks, q4_k_m");
  if (config.quantization_bit) broken("quantization_bit is given too", "leave it out, and choose a block type with gguf_type");
  if (config.export_legacy_format) broken("export_legacy_format is given too", "leave one of them out");
  if (config.infer_dtype != "auto") broken("infer_dtype is given too", "leave it out, and choose a type with gguf_type");
  if (!config.adapter_name_or_path && config.init_lora_weights == "loftq")
    broken("init_lora_weights is loftq, whose adapter a GGUF has no place for", "leave it out, or export with export_format: huggingface");
  if (options.export_format != "gguf_adapter") return;
  if (!config.adapter_name_or_path || config.adapter_name_or_path->find(',') != std::string::npos)
    broken("adapter_name_or_path does not name one adapter", "name the adapter");
  for (const char* each : {"f32", "f16", "bf16", "q8_0"})
    if (options.gguf_type == each) return;
  broken("gguf_type is " + options.gguf_type + ", and adapters are written as f32, f16, bf16 or q8_0", "choose one of these");
}

int export_gguf(const GgufExport& what) {
  const GgufRecipe& recipe = gguf_recipe(what.options.gguf_type);
  const bool alone = what.options.export_format == "gguf_adapter";
  std::string file = fmt::format("{}-{}.gguf", alone ? "adapter" : "model", recipe.name);
  StagedFiles staged(what.folder);
  if (alone && !what.adapter) throw Error(ErrorKind::usage, "export_format is gguf_adapter, and there is no adapter", "name it");
  if (alone) {
    const GgufAdapterReport report =
        write_gguf_adapter(what.model, what.files, *what.adapter, recipe, base_name(what.config.adapter_name_or_path.value_or("adapter")),
                           base_name(what.config.model_name_or_path), staged.path() + "/" + file);
    print_stderr(fmt::format("check: {} pairs of A and B read back: at most {:.2g} of a matrix's size from the adapter's\n",
                             report.matrices, report.worst));
  } else {
    try {
      file = export_model_gguf(what, recipe, staged.path(), file);
    } catch (const Stopped&) {
      print_stderr("stopped; " + what.folder + " holds no model\n");
      return kExitStopped;
    }
  }
  staged.commit();
  print_stderr(fmt::format("wrote {}/{}\n", what.folder, file));
  return 0;
}

}  // namespace loraine
