// Weights that another program quantised, by the quantization_config of config.json. Called when a folder is opened.
#pragma once
#include <memory>
#include <string>

#include "loraine/io/files/json_file.h"
#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

// The source with quantised weights as packed matrices. config: of config.json, which lies in `folder`. Throws bad_data for methods that
// are not read, with a list of those that are, and where config and tensors do not fit together.
std::shared_ptr<TensorSource> with_quantised(std::unique_ptr<TensorSource> source, const Json& config, const std::string& folder);

}  // namespace loraine
