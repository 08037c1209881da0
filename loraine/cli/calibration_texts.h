// The texts that a quantised export is calibrated with. Called by export_quantised and export_gguf.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "loraine/io/model_files.h"
#include "loraine/train/config/config.h"

namespace loraine {

struct CalibrationText {
  std::string dataset;  // a file, a folder, a name in dataset_info.json, or a repository of a hub
  int64_t samples = 128, length = 1024;
};

// As LLaMA-Factory draws them: `samples` times a random one of the texts with more than `length` tokens, and a random window of that many.
// The same seed, the same windows. Throws bad_data where 100 draws in a row find no text that is long enough.
std::vector<std::vector<int32_t>> calibration_windows(const CalibrationText& what, const ModelFiles& files, const TrainConfig& config);
// As llama-imatrix cuts its file: all texts in their order as one row of tokens (a .txt file is one text), cut into windows, each beginning
// with the token that begins texts, where the tokenizer has one, in the place of its first. At most `samples` of them.
std::vector<std::vector<int32_t>> calibration_chunks(const CalibrationText& what, const ModelFiles& files, const TrainConfig& config);

}  // namespace loraine
