// A model to measure where no folder is given, and an adapter on any model. Called by bench.
#pragma once
#include "loraine/adapters/adapter.h"
#include "loraine/io/model_files.h"
#include "loraine/model/model.h"

namespace loraine {

ModelFiles random_files(Dtype dtype);                                       // the shape of SmolLM2-135M, the same values every time
AdapterSet random_adapter(const Model& model, int64_t rank, bool trained);  // on all linear layers

}  // namespace loraine
