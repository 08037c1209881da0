// A base in device memory and the stream of whoever asks it: made once, lent to engines and evaluations. Called by api.
#pragma once
#include <string>

#include "loraine/model/gpu/gpu_model.h"

namespace loraine {

struct GpuBase {
  explicit GpuBase(const Model& model) : model(model, stream) {}  // moves it
  GpuStream stream;
  GpuModel model;
};

// Throws out_of_memory where the card has less free; `hint`: what needs less.
void check_gpu_room(size_t bytes, const std::string& hint);

}  // namespace loraine
