// The story of a run: load, attach, plan memory, step, evaluate, save. Called by the command line; prints nothing itself.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "loraine/data/order/stream.h"
#include "loraine/io/model_files.h"
#include "loraine/io/training_record.h"
#include "loraine/model/decoder.h"
#include "loraine/train/config/config.h"
#include "loraine/train/rollouts/rollouts.h"
#include "loraine/train/saving/run_folder.h"

namespace loraine {

struct TrainSummary {  // what the table before training shows
  int64_t parameters = 0, trainable = 0;
  size_t weight_bytes = 0, adapter_bytes = 0, optimizer_bytes = 0, activation_bytes = 0, scratch_bytes = 0;
  size_t generation_bytes = 0;  // stage grpo: what answers take: keys and values, activations
  int64_t micro_batch_rows = 0, steps = 0, batches_per_epoch = 0;
  Recompute recompute = Recompute::none;
  size_t peak_bytes = 0;  // resident set of the whole process at its highest, predicted
};

struct TrainScreen {
  std::function<void(const TrainSummary&)> summary;
  std::function<void(const std::string&)> message;
  std::function<void(int64_t step, int64_t total, double loss, double learning_rate, double tokens_per_second)> progress;
};

struct TrainInput {
  TrainConfig config;
  Device device = Device::cpu;  // where it computes (gpu/device.h)
  ModelFiles files;
  DataSplit data;
  std::unique_ptr<ExampleStream> stream;  // streaming: in the place of data.train
  std::unique_ptr<Rollouts> rollouts;     // stage grpo: who answers and judges
  RunFolder folder;
  TrainingRecord record;                    // written beside what is trained; the fingerprint is added
  const std::atomic<bool>* stop = nullptr;  // set by a signal: the step is finished, a checkpoint saved
};

enum class TrainEnd { finished, stopped, dry_run };
TrainEnd train(TrainInput& input, const TrainScreen& screen);

}  // namespace loraine
