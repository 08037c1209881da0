// States of every type come back bit for bit; a file of another run is refused; so is one whose bytes are wrong.
#include "loraine/train/optimizers/state_file.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::state_file_test {
namespace {

std::string fresh_folder() {
  const std::string path = testing::TempDir() + "/loraine_states";
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path;
}

struct Values {
  std::vector<double> weights = {0.1, -1e300};
  std::vector<float> mean = {1, 2, 3, 4, -1e-30f, 3e38f};
  std::vector<uint8_t> codes = {0, 1, 127, 128, 255};
  std::vector<OptimizerState> views(const std::string& name = "layers.0.q_proj.lora_A") {
    return {{name + ".m", Tensor(mean.data(), Dtype::F32, {2, 3})},
            {name + ".codes", Tensor(codes.data(), Dtype::U8, {5, 1})},
            {name + ".weights", Tensor(weights.data(), Dtype::F64, {2})}};
  }
};

TEST(StateFile, ComesBackBitForBit) {
  const std::string folder = fresh_folder();
  Values saved, back;
  write_optimizer_state(folder, saved.views());
  std::ranges::fill(back.mean, 9.0f);
  std::ranges::fill(back.codes, 9);
  std::ranges::fill(back.weights, 9.0);
  read_optimizer_state(folder, back.views());
  EXPECT_EQ(back.mean, saved.mean);
  EXPECT_EQ(back.codes, saved.codes);
  EXPECT_EQ(back.weights, saved.weights);
}

TEST(StateFile, AnotherRunsIsRefused) {
  const std::string folder = fresh_folder();
  Values saved;
  write_optimizer_state(folder, saved.views());
  EXPECT_THROW(read_optimizer_state(folder, saved.views("layers.1.q_proj.lora_A")), Error);
  EXPECT_THROW(read_optimizer_state(folder, {}), Error);
  auto other_shape = saved.views();
  other_shape[0].values = Tensor(saved.mean.data(), Dtype::F32, {3, 2});
  EXPECT_THROW(read_optimizer_state(folder, other_shape), Error);
  auto other_type = saved.views();
  std::vector<float> wide(5);
  other_type[1].values = Tensor(wide.data(), Dtype::F32, {5, 1});
  EXPECT_THROW(read_optimizer_state(folder, other_type), Error);
}

TEST(StateFile, NoStatesAreAFileToo) {
  const std::string folder = fresh_folder();
  write_optimizer_state(folder, {});
  EXPECT_NO_THROW(read_optimizer_state(folder, {}));
  Values values;
  EXPECT_THROW(read_optimizer_state(folder, values.views()), Error);
}

TEST(StateFile, BadBytes) {
  const std::string folder = fresh_folder();
  Values values;
  for (const char* text : {"", "{}", "\xff\xff\xff\xff\xff\xff\xff\x7f{}"}) {
    write_file(folder + "/optimizer.safetensors", text);
    EXPECT_THROW(read_optimizer_state(folder, values.views()), Error) << text;
  }
}

}  // namespace
}  // namespace loraine::state_file_test
