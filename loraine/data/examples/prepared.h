// Encoded data sets on disk (tokenized_path), in the folder that LLaMA-Factory keeps them in: `datasets`' save_to_disk. Called by
// dataset.cpp.
#pragma once
#include <string>

#include "loraine/data/dataset.h"
#include "loraine/data/encode/row_encoder.h"
#include "loraine/data/examples/example_store.h"

namespace loraine {

// Whether the folder holds data sets. Throws usage where it holds something else.
bool is_prepared(const std::string& folder);

// Its sets: train, validation, or validation_NAME each. They are taken as they are, whoever wrote them; columns of images are passed over.
// Throws bad_data about files that are damaged and ids beyond encoder.vocab_size, usage where the sets are of another stage.
DataSplit read_prepared(const std::string& folder, DataStage stage, const Encoder& encoder, ExampleStore& store);

// All files appear together. Packed examples keep their samples by positions and masks.
void write_prepared(const std::string& folder, DataStage stage, const DataSplit& data);

}  // namespace loraine
