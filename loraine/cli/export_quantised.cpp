// Merged first, as every export, where there is something to merge; then quantised layer by layer; then read back and compared.
#include "loraine/cli/export_quantised.h"

#include <fmt/format.h>

#include <filesystem>

#include "loraine/cli/commands.h"
#include "loraine/cli/compared_text.h"
#include "loraine/cli/progress.h"
#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/export/calibrated/calibrated_model.h"
#include "loraine/export/check.h"
#include "loraine/export/quantised.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/io/write_text_files.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

bool has_packed_sites(const Model& model) {
  for (const Weight* site : model.layer_sites())
    for (const WeightPart& part : site->parts)
      if (is_packed(part.weight.dtype)) return true;
  return false;
}

// The model that is quantised: as it is, or merged into a folder of its own for the time of the work.
class PlainModel {
 public:
  PlainModel(const QuantisedExport& what, const std::string& place) : folder_(place + "/merged") {
    const std::unique_ptr<Merge> merge = plan_merge(what.model, what.adapter, what.written_as);
    merged_tensors_ = merge->merged();
    if (merge->computed.empty() && !has_packed_sites(what.model)) {
      model_ = &what.model;
      return;
    }
    make_folders(folder_);
    write_merge(*merge, folder_, {what.config.export_size * 1000000000}, what.keep_going);
    check_written(*merge, folder_, what.keep_going);
    write_file(folder_ + "/config.json", what.files.config.dump(2));
    ModelFiles files = open_model_files(folder_);
    own_.emplace(load_model(files, {}));
    own_->read_once = true;
    model_ = &*own_;
  }
  ~PlainModel() {
    own_.reset();
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Model& model() { return *model_; }
  int64_t merged_tensors() const { return merged_tensors_; }

 private:
  std::string folder_;
  std::optional<Model> own_;
  Model* model_ = nullptr;
  int64_t merged_tensors_ = 0;
};

struct QuantisedOutcome {
  CalibrationReport report;
  LogitsReport logits;
  int64_t merged_tensors = 0, shards = 0;
  bool made_up = false;
};

QuantisedOutcome write_quantised_model(const QuantisedExport& what, const std::string& place) {
  QuantisedOutcome outcome;
  const bool awq = what.options.export_quantization_method == "awq";
  const GroupScheme scheme{*what.options.export_quantization_bit, what.options.export_quantization_group_size};
  check_quantisable(what.model, scheme, what.options.export_quantization_method);
  const std::vector<std::vector<int32_t>> texts = calibration_windows(what.options.text(), what.files, what.config);
  if (what.adapter && unties(what.model, *what.adapter)) what.files.config["tie_word_embeddings"] = false;
  describe_quantisation(what.files.config, what.model);
  if (what.written_as)
    for (const char* key : {"dtype", "torch_dtype"})
      if (what.files.config.contains(key)) what.files.config[key] = what.config.infer_dtype;
  {
    PlainModel plain(what, place);
    outcome.merged_tensors = plain.merged_tensors();
    PackedSpool spool(place + "/packed.tmp");
    Progress progress("layers");
    const auto layers = static_cast<int64_t>(plain.model().layers.size());
    const auto started = [&](int64_t layer) { progress.update({layer, layers, {}, {}, {}, {}}); };
    outcome.report = (awq ? awq_model : gptq_model)({plain.model(), texts, scheme, spool, started, what.keep_going});
    progress.update({layers, layers, {}, {}, {}, {}});
    progress.finish();
    const std::unique_ptr<Merge> as_it_is = plan_merge(plain.model(), nullptr);
    const Merge written{plain.model(), nullptr, with_packed(plain.model(), as_it_is->weights, spool), {}};
    outcome.shards = write_merge(written, place, {what.config.export_size * 1000000000}, what.keep_going);
    check_written(written, place, what.keep_going);
  }
  const Json config = awq ? awq_config(scheme) : gptq_config(scheme);
  what.files.config["quantization_config"] = config;
  if (!awq) write_file(place + "/quantize_config.json", config.dump(2) + "\n");
  what.write_beside(place);
  const ComparedText text = compared_text(what.files, what.model);
  outcome.made_up = text.made_up;
  outcome.logits = compare_logits({what.model, what.adapter, {}, {}}, place, text.ids);
  return outcome;
}

}  // namespace

std::vector<Option> options_of_calibration(CalibratedOptions& o) {
  return {{"export_quantization_bit",
           "export",
           &o.export_quantization_bit,
           "quantise what is written to so many bits, calibrated with texts; null: it is written in full",
           {.numbers = {2, 3, 4, 8}}},
          {"export_quantization_method",
           "export",
           &o.export_quantization_method,
           "how it is quantised: gptq, or awq in 4 bits",
           {.choices = {"gptq", "awq"}}},
          {"export_quantization_dataset", "export", &o.export_quantization_dataset,
           "texts for it, or for the importance matrix of a GGUF: a file, a folder, a name in dataset_info.json or a data set of a hub"},
          {"export_quantization_nsamples",
           "export",
           &o.export_quantization_nsamples,
           "how many windows of text",
           {.lowest = 1, .highest = 1e6}},
          {"export_quantization_maxlen", "export", &o.export_quantization_maxlen, "tokens of each window", {.lowest = 8, .highest = 1e6}},
          {"export_quantization_group_size",
           "export",
           &o.export_quantization_group_size,
           "columns of a row that share a scale",
           {.numbers = {32, 64, 128}}}};
}

void check_calibrated_options(const CalibratedOptions& o, const TrainConfig& config, bool gguf) {
  const auto broken = [&](const std::string& what, const char* hint) {
    throw Error(ErrorKind::usage, fmt::format("export_quantization_bit is {}, and {}", *o.export_quantization_bit, what), hint);
  };
  if (!o.export_quantization_bit) {
    if (o.export_quantization_dataset && !gguf)
      throw Error(ErrorKind::usage, "export_quantization_dataset is given, and export_quantization_bit is not",
                  "set export_quantization_bit, or export_format: gguf for an importance matrix; or leave the data set out");
    return;
  }
  if (gguf) broken("export_format is gguf, whose types gguf_type names", "leave export_quantization_bit out");
  if (!o.export_quantization_dataset || o.export_quantization_dataset->empty())
    broken("export_quantization_dataset is not given", "name texts to calibrate with: --export_quantization_dataset texts.jsonl");
  if (o.export_quantization_method == "awq" && *o.export_quantization_bit != 4)
    broken("export_quantization_method is awq, which has 4 bits", "set export_quantization_bit: 4, or export_quantization_method: gptq");
  if (config.quantization_bit) broken("quantization_bit is given too", "leave quantization_bit out");
  if (config.export_legacy_format) broken("export_legacy_format is given too", "leave export_legacy_format out");
  if (!config.adapter_name_or_path && config.init_lora_weights == "loftq")
    broken("init_lora_weights is loftq, which quantises in a way of its own", "leave one of them out");
}

int export_quantised(const QuantisedExport& what) {
  StagedFiles staged(what.folder);
  QuantisedOutcome outcome;
  try {
    outcome = write_quantised_model(what, staged.path());
  } catch (const Stopped&) {
    print_stderr("stopped; " + what.folder + " holds no model\n");
    return kExitStopped;
  } catch (const Error& error) { throw Error(error.kind, error.what() + std::string("; ") + what.folder + " holds no model", error.hint); }
  if (!outcome.logits.merged.finite)
    throw Error(ErrorKind::numeric,
                (outcome.logits.not_finite.empty() ? "the quantised model gives no finite numbers" : outcome.logits.not_finite) + ", so " +
                    what.folder + " holds no model",
                "look for NaN and infinity in the base and the adapters");
  staged.commit();
  const CalibrationReport& report = outcome.report;
  const auto matrices = static_cast<double>(std::max<int64_t>(1, report.matrices));
  print_stderr(fmt::format("merged {} tensors; {} matrices in {} bits, groups of {}, into {} ({} file{})\n", outcome.merged_tensors,
                           report.matrices, *what.options.export_quantization_bit, what.options.export_quantization_group_size, what.folder,
                           outcome.shards, outcome.shards == 1 ? "" : "s"));
  print_stderr(
      fmt::format("calibrated with {} tokens: squared error of the layers' products {:.3g} of their size, {:.3g} by rounding to the "
                  "nearest\n",
                  report.tokens, report.error / matrices, report.of_nearest / matrices));
  print_stderr(fmt::format("check: every tensor read back; logits on {} {}: quantised against base + adapter: {}\n", outcome.logits.tokens,
                           outcome.made_up ? "made-up tokens (no tokenizer)" : "tokens of text", divergence_text(outcome.logits.merged)));
  return 0;
}

}  // namespace loraine
