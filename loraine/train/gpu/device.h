// Where a run computes: the setting `device`, and what of a run the GPU has kernels for. Called before a model is loaded.
#pragma once
#include <string>

#include "loraine/core/context.h"
#include "loraine/io/model_files.h"
#include "loraine/train/config/config.h"

namespace loraine {

// What the settings ask for that has no GPU code, with its key ("stage: dpo"); empty: nothing.
std::string settings_without_gpu(const TrainConfig& config);

struct DeviceChoice {
  Device device = Device::cpu;
  std::string text;  // what the screen says of it; empty: nothing
};
// cuda: throws unsupported that says what is missing: GPU code for the run, CUDA code in this build, a driver, a card. auto: the GPU where
// there is one and it has code for the run; an emulated one is none.
DeviceChoice choose_device(const TrainConfig& config, const ModelFiles& files);
// The same of a model that is only asked: chat, trace, evaluations, predictions. What its adapters lack is for the caller.
std::string answers_without_gpu(const TrainConfig& config);
DeviceChoice choose_device_of_answers(const TrainConfig& config, const ModelFiles& files);

}  // namespace loraine
