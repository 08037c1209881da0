// Quantised checkpoints as they lie in files: read, and refused by name when their tensors do not fit together.
#include "loraine/io/quantised/bitsandbytes_source.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/safetensors/safetensors.h"

namespace loraine::bitsandbytes_source_test {
namespace {

using Tensors = std::vector<std::pair<std::string, Tensor>>;

// One weight of shape [2, 64] in four bits, nested or not, and one of [2, 3] in eight.
struct Checkpoint {
  std::vector<uint8_t> codes, absmax_codes = {0, 255};
  std::vector<float> map, absmax = {2, 4}, nested_absmax = {3}, nested_map, scb = {127, 254}, norm = {1};
  std::vector<int8_t> eight = {1, 2, 3, -1, -2, -3};
  std::string state;
  std::string file = (std::filesystem::temp_directory_path() / "loraine_bitsandbytes_source_test.safetensors").string();
  Tensors tensors;

  explicit Checkpoint(bool nested) : codes(64, 0x0f), map(kNf4Map, kNf4Map + 16), nested_map(dynamic_map(), dynamic_map() + 256) {
    codes[32] = 0x7f;
    state = R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [2, 64])";
    state += nested ? R"(, "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5})" : "}";
    tensors = {{"a.weight", Tensor(codes.data(), Dtype::U8, {64, 1})},
               {"a.weight.absmax", nested ? Tensor(absmax_codes.data(), Dtype::U8, {2}) : Tensor(absmax.data(), Dtype::F32, {2})},
               {"a.weight.quant_map", Tensor(map.data(), Dtype::F32, {16})},
               {"b.SCB", Tensor(scb.data(), Dtype::F32, {2})},
               {"b.weight", Tensor(eight.data(), Dtype::I8, {2, 3})},
               {"norm.weight", Tensor(norm.data(), Dtype::F32, {1})}};
    if (!nested) return;
    tensors.push_back({"a.weight.nested_absmax", Tensor(nested_absmax.data(), Dtype::F32, {1})});
    tensors.push_back({"a.weight.nested_quant_map", Tensor(nested_map.data(), Dtype::F32, {256})});
  }
  Tensor& of(const std::string& name) {
    for (auto& [key, tensor] : tensors)
      if (key == name) return tensor;
    ADD_FAILURE() << name;
    return tensors[0].second;
  }
  void drop(const std::string& name) {
    std::erase_if(tensors, [&](const auto& entry) { return entry.first == name; });
  }
  std::unique_ptr<TensorSource> open() {
    Tensors all = tensors;
    all.push_back({"a.weight.quant_state.bitsandbytes__nf4", Tensor(state.data(), Dtype::U8, {static_cast<int64_t>(state.size())})});
    write_safetensors(file, all, {});
    return with_bitsandbytes(open_safetensors(file));
  }
  std::string refusal() {
    try {
      open();
    } catch (const Error& error) {
      return error.kind == ErrorKind::bad_data ? error.what() : std::string("of another kind: ") + error.what();
    }
    return "none";
  }
};

std::vector<float> values_of(const TensorSource& source, const std::string& name) {
  const TensorInfo& info = *source.find(name);
  std::vector<float> values(static_cast<size_t>(info.shape[0] * info.shape[1]));
  source.read(info, Tensor(values.data(), Dtype::F32, info.shape));
  return values;
}

TEST(BitsandbytesSource, GivesMatricesAndHidesTheirScales) {
  for (bool nested : {false, true}) {
    Checkpoint checkpoint(nested);
    const auto source = checkpoint.open();
    ASSERT_EQ(source->tensors().size(), 3u);
    const TensorInfo& a = *source->find("a.weight");
    EXPECT_EQ(a.shape, (std::vector<int64_t>{2, 64}));
    EXPECT_EQ(a.packed, Dtype::NF4);
    const Tensor packed = source->map_packed(a);
    ASSERT_TRUE(packed.data && packed.quant);
    // 0x0f: −1 and 1; row 1 begins with 0x7f: 0 and 1
    const float first = nested ? dynamic_map()[0] * 3.0f + 0.5f : 2.0f, second = nested ? 3.5f : 4.0f;
    const std::vector<float> values = values_of(*source, "a.weight");
    EXPECT_EQ(values[0], -first);
    EXPECT_EQ(values[1], first);
    EXPECT_EQ(values[64], 0.0f);
    EXPECT_EQ(values[65], second);
    EXPECT_EQ(source->find("b.weight")->packed, Dtype::INT8);
    const std::vector<float> eight = values_of(*source, "b.weight");
    EXPECT_FLOAT_EQ(eight[2], 3.0f);
    EXPECT_FLOAT_EQ(eight[3], -2.0f);
    EXPECT_EQ(source->find("norm.weight")->packed, std::nullopt);
  }
}

TEST(BitsandbytesSource, RefusesWhatDoesNotFitTogether) {
  const auto refused = [](bool nested, const std::string& part, auto&& damage) {
    Checkpoint checkpoint(nested);
    damage(checkpoint);
    const std::string text = checkpoint.refusal();
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  const auto with_state = [](const char* text) { return [text](Checkpoint& c) { c.state = text; }; };
  for (const char* name :
       {"a.weight.absmax", "a.weight.quant_map", "a.weight.nested_absmax", "a.weight.nested_quant_map", "a.weight", "b.weight"})
    refused(true, std::string(name) + " is missing", [name](Checkpoint& c) { c.drop(name); });
  refused(false, "expected 2 elements of F32", [](Checkpoint& c) { c.of("a.weight.absmax").shape[0] = 1; });
  refused(false, "expected 16 elements", [](Checkpoint& c) { c.of("a.weight.quant_map").shape[0] = 15; });
  refused(false, "holds 60 bytes", [](Checkpoint& c) { c.of("a.weight").shape[0] = 60; });
  refused(false, "expected 2 elements", [](Checkpoint& c) { c.of("b.SCB").shape[0] = 1; });
  refused(false, "not an I8 matrix", [](Checkpoint& c) { c.of("b.weight").dtype = Dtype::U8; });
  refused(false, "is not the JSON", with_state("no JSON"));
  refused(false, "is not the JSON", with_state(R"({"quant_type": "fp4", "blocksize": 64, "dtype": "float32", "shape": [2, 64]})"));
  refused(false, "is not the JSON", with_state(R"({"quant_type": "nf4", "blocksize": 0, "dtype": "float32", "shape": [2, 64]})"));
  refused(false, "is not the JSON", with_state(R"({"quant_type": "nf4", "blocksize": -64, "dtype": "float32", "shape": [2, 64]})"));
  refused(false, "shape is not", with_state(R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [0, 64]})"));
  refused(false, "shape is not",
          with_state(R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [4294967296, 4294967296]})"));
  refused(false, "expected float32", with_state(R"({"quant_type": "nf4", "blocksize": 64, "dtype": "int8", "shape": [2, 64]})"));
  refused(false, "even number of columns", with_state(R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [128, 1]})"));
  refused(true, "nested state",
          with_state(R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [2, 64], "nested_offset": "1"})"));
}

}  // namespace
}  // namespace loraine::bitsandbytes_source_test
