// A whole run on the GPU beside the CPU's: what it logs, of updates of several micro-batches.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "loraine/train/train.h"

namespace loraine::gpu_run_test {
namespace {

std::vector<double> losses_of_run(Device device, const std::filesystem::path& folder) {
  TrainInput input;
  TrainConfig& c = input.config;
  c.model_name_or_path = LORAINE_SOURCE_DIR "/tests/golden/llamafactory/tiny_llama";
  c.output_dir = folder;
  c.lora_target = "all", c.lora_rank = 4, c.lora_alpha = 8;
  c.max_steps = 4, c.per_device_train_batch_size = 2, c.gradient_accumulation_steps = 2;
  c.logging_steps = 1, c.learning_rate = 1e-2;
  input.device = device;
  input.files = open_model_files(c.model_name_or_path);
  Dataset& set = input.data.train;
  for (int32_t row = 0; row < 16; ++row) {
    std::vector<int32_t> ids, labels;
    for (int32_t t = 0; t < 5 + row % 4 * 3; ++t) {
      ids.push_back(3 + (row * 31 + t * 7) % 60);
      labels.push_back(t < 2 ? kIgnoreLabel : ids.back());
    }
    set.num_tokens += static_cast<int64_t>(ids.size()), set.num_trained += static_cast<int64_t>(ids.size()) - 2;
    set.longest = std::max(set.longest, static_cast<int64_t>(ids.size()));
    set.examples.push_back({ids, labels, {}, 0, false});
  }
  set.num_rows = set.num_samples = 16;
  input.folder = open_run_folder(c);
  std::vector<double> losses;
  TrainScreen screen;
  screen.progress = [&](int64_t, int64_t, double loss, double, double) { losses.push_back(loss); };
  EXPECT_EQ(train(input, screen), TrainEnd::finished);
  return losses;
}

TEST(GpuRun, LogsTheLossesOfTheCpu) {
  const std::filesystem::path top = std::filesystem::temp_directory_path() / ("loraine_gpu_run_" + std::to_string(getpid()));
  std::filesystem::create_directories(top);
  const std::vector<double> cpu = losses_of_run(Device::cpu, top / "cpu"), gpu = losses_of_run(Device::cuda, top / "gpu");
  std::filesystem::remove_all(top);
  ASSERT_EQ(cpu.size(), 4u);
  ASSERT_EQ(gpu.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(gpu[i], cpu[i], 1e-5 * cpu[i]) << i;
  EXPECT_GT(cpu[3], 1);
}

}  // namespace
}  // namespace loraine::gpu_run_test
