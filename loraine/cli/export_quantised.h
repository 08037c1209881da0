// loraine export with export_quantization_bit: a GPTQ or AWQ checkpoint of the merged model. Called by export.cpp.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/cli/calibration_texts.h"
#include "loraine/core/describe.h"
#include "loraine/export/merge.h"
#include "loraine/io/model_files.h"
#include "loraine/model/model.h"
#include "loraine/train/config/config.h"

namespace loraine {

struct CalibratedOptions {
  std::optional<int64_t> export_quantization_bit;
  std::optional<std::string> export_quantization_dataset;
  int64_t export_quantization_nsamples = 128, export_quantization_maxlen = 1024, export_quantization_group_size = 128;
  std::string export_quantization_method = "gptq";
  CalibrationText text() const {
    return {export_quantization_dataset.value_or(""), export_quantization_nsamples, export_quantization_maxlen};
  }
};
std::vector<Option> options_of_calibration(CalibratedOptions& options);
void check_calibrated_options(const CalibratedOptions& options, const TrainConfig& config, bool gguf);  // throws usage naming the keys

struct QuantisedExport {
  const CalibratedOptions& options;
  const TrainConfig& config;
  ModelFiles& files;  // as they are written, but for config.json's type and quantization_config
  Model& model;
  const AdapterSet* adapter = nullptr;
  std::optional<Dtype> written_as;  // the type of what is not quantised
  std::string folder;
  std::function<void(const std::string& place)> write_beside;  // the files that are no weights
  std::function<bool()> keep_going;
};
int export_quantised(const QuantisedExport& what);  // the exit code

}  // namespace loraine
