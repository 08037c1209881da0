// Folders in other quantisers' formats: values by hand, and refusals of what does not fit together. That whole models equal what the
// formats' libraries and transformers make of them: tools/golden_quantised.py.
#include "loraine/io/quantised/quantised_checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"
#include "loraine/io/safetensors/safetensors.h"

namespace loraine::quantised_checkpoint_test {
namespace {

namespace fs = std::filesystem;

// Tensors with the types that safetensors files name, some of which no Dtype stands for.
struct Stored {
  std::string name, type;
  std::vector<int64_t> shape;
  std::string bytes;
};
template <class T>
Stored stored(const std::string& name, const std::string& type, std::vector<int64_t> shape, const std::vector<T>& values) {
  return {name, type, std::move(shape), std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))};
}

struct Folder {
  Json config;  // quantization_config
  std::vector<Stored> tensors;
  const std::string path = (fs::temp_directory_path() / "loraine_quantised_checkpoint_test").string();

  Stored& of(const std::string& name) {
    for (Stored& tensor : tensors)
      if (tensor.name == name) return tensor;
    ADD_FAILURE() << name;
    return tensors[0];
  }
  void drop(const std::string& name) {
    std::erase_if(tensors, [&](const Stored& tensor) { return tensor.name == name; });
  }
  std::shared_ptr<TensorSource> open() const {
    fs::create_directories(path);
    Json header = Json::object();
    std::string body;
    for (const Stored& tensor : tensors) {
      header[tensor.name] = {
          {"dtype", tensor.type}, {"shape", tensor.shape}, {"data_offsets", {body.size(), body.size() + tensor.bytes.size()}}};
      body += tensor.bytes;
    }
    std::string text = header.dump();
    text += std::string((8 - text.size() % 8) % 8, ' ');
    const uint64_t size = text.size();
    std::ofstream file(path + "/model.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&size), 8);
    file << text << body;
    file.close();
    return with_quantised(open_safetensors(path + "/model.safetensors"), {{"quantization_config", config}}, path);
  }
  std::string refusal() const {
    try {
      open();
    } catch (const Error& error) {
      return error.kind == ErrorKind::bad_data ? error.what() : std::string("of another kind: ") + error.what();
    }
    return "none";
  }
};

std::vector<float> values_of(const TensorSource& source, const std::string& name) {
  const TensorInfo* info = source.find(name);
  if (!info || !info->packed) return {};
  std::vector<float> values(static_cast<size_t>(info->shape[0] * info->shape[1]));
  source.read(*info, Tensor(values.data(), Dtype::F32, info->shape));
  Buffer memory;  // the same by way of the codes that products read
  const Tensor mapped = source.map_packed(*info), codes = mapped.data ? mapped : source.take_packed(*info, memory);
  std::vector<float> again(values.size());
  dequantise(again.data(), codes);
  EXPECT_EQ(values, again) << name;
  return values;
}

// [8, 16] in 4 bits, groups of 8: element (o, k) has code (o + k) % 16, group g of it the zero 7 + g and the scale 2^-o; columns choose
// their groups by g_idx.
Folder gptq(bool less_one) {
  Folder folder;
  folder.config = {
      {"quant_method", "gptq"}, {"bits", 4}, {"group_size", 8}, {"desc_act", true}, {"checkpoint_format", less_one ? "gptq" : "gptq_v2"}};
  std::vector<uint32_t> qweight(2 * 8), qzeros(2);
  std::vector<f16> scales(2 * 8);
  std::vector<int32_t> g_idx;
  for (uint32_t k = 0; k < 16; ++k) {
    g_idx.push_back(k % 2);
    for (uint32_t o = 0; o < 8; ++o) qweight[k / 8 * 8 + o] |= ((o + k) % 16) << (4 * (k % 8));
  }
  for (uint32_t g = 0; g < 2; ++g)
    for (uint32_t o = 0; o < 8; ++o) {
      qzeros[g] |= (7 + g - less_one) << (4 * o);
      scales[g * 8 + o] = f32_to_f16(std::ldexp(1.0f, -static_cast<int>(o)));
    }
  folder.tensors = {stored("a.qweight", "I32", {2, 8}, qweight), stored("a.qzeros", "I32", {2, 1}, qzeros),
                    stored("a.scales", "F16", {2, 8}, scales), stored("a.g_idx", "I32", {16}, g_idx),
                    stored<f16>("norm.weight", "F16", {1}, {0x3c00})};
  return folder;
}

TEST(QuantisedCheckpoint, Gptq) {
  for (const bool less_one : {true, false}) {
    const auto source = gptq(less_one).open();
    ASSERT_EQ(source->tensors().size(), 2u);
    const TensorInfo& info = *source->find("a.weight");
    EXPECT_EQ(info.shape, (std::vector<int64_t>{8, 16}));
    EXPECT_EQ(info.dtype, Dtype::F16);
    const std::vector<float> values = values_of(*source, "a.weight");
    for (int64_t o = 0; o < 8; ++o)
      for (int64_t k = 0; k < 16; ++k)
        EXPECT_EQ(values[static_cast<size_t>(16 * o + k)],
                  static_cast<float>((o + k) % 16 - 7 - k % 2) * std::ldexp(1.0f, -static_cast<int>(o)))
            << o << " " << k;
  }
}

// Zeros of a "gptq" file that are 0 were stored as −1, which borrowed from the next; the file says so in words, not in fields.
TEST(QuantisedCheckpoint, ZerosOfGptqBorrowFromEachOther) {
  Folder folder = gptq(true);
  const uint32_t zeros = 0x70707070u, words[2] = {zeros - 0x11111111u, zeros - 0x11111111u};
  std::memcpy(folder.of("a.qzeros").bytes.data(), words, 8);
  const std::vector<float> values = values_of(*folder.open(), "a.weight");
  for (size_t o = 0; o < 8; ++o)
    EXPECT_EQ(values[16 * o], static_cast<float>(static_cast<int>(o) - (o % 2 ? 7 : 0)) * std::ldexp(1.0f, -static_cast<int>(o)));
}

TEST(QuantisedCheckpoint, GptqIsRefusedByName) {
  const auto refused = [](const std::function<void(Folder&)>& change) {
    Folder folder = gptq(true);
    change(folder);
    return folder.refusal();
  };
  EXPECT_EQ(gptq(true).refusal(), "none");
  EXPECT_NE(refused([](Folder& f) { f.config["bits"] = 5; }).find("5 bits"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["bits"] = 8; }).find("no matrix of 8 bits"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["bits"] = "4"; }).find("whole number"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config.erase("bits"); }).find("has no bits"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["checkpoint_format"] = "marlin"; }).find("marlin"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["group_size"] = 4; }).find("expected [4, 8]"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["group_size"] = 0; }).find("group_size 0"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["quant_method"] = "quip"; }).find("gptq, awq, hqq, aqlm, fp8"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["modules_to_not_convert"] = {"a"}; }).find("stored quantised"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.drop("a.qzeros"); }).find("a.qzeros is missing"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.of("a.scales").type = "I16"; }).find("expected F16"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.of("a.qzeros").shape = {1, 2}; }).find("expected [2, 1]"), std::string::npos);
  Folder folder = gptq(true);
  const int32_t wrong = 2;
  std::memcpy(folder.of("a.g_idx").bytes.data() + 4, &wrong, 4);
  const auto source = folder.open();
  EXPECT_THROW(values_of(*source, "a.weight"), Error);
}

// [16, 8] in groups of 4: code (3 o + k) % 16, zero o % 16, scale 1 + group.
TEST(QuantisedCheckpoint, Awq) {
  Folder folder;
  folder.config = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 4}, {"version", "GEMM"}, {"zero_point", true}};
  std::vector<uint32_t> qweight(8 * 2), qzeros(2 * 2);
  std::vector<float> scales(2 * 16);
  const uint32_t place[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // of output o of eight in its word
  for (uint32_t o = 0; o < 16; ++o) {
    for (uint32_t k = 0; k < 8; ++k) qweight[k * 2 + o / 8] |= ((3 * o + k) % 16) << (4 * place[o % 8]);
    for (uint32_t g = 0; g < 2; ++g) {
      qzeros[g * 2 + o / 8] |= o % 16 << (4 * place[o % 8]);
      scales[g * 16 + o] = static_cast<float>(1 + g);
    }
  }
  folder.tensors = {stored("b.qweight", "I32", {8, 2}, qweight), stored("b.qzeros", "I32", {2, 2}, qzeros),
                    stored("b.scales", "F32", {2, 16}, scales)};
  const std::vector<float> values = values_of(*folder.open(), "b.weight");
  ASSERT_EQ(values.size(), 128u);
  for (int o = 0; o < 16; ++o)
    for (int k = 0; k < 8; ++k)
      EXPECT_EQ(values[static_cast<size_t>(8 * o + k)], static_cast<float>(((3 * o + k) % 16 - o % 16) * (1 + k / 4))) << o << " " << k;
  folder.config["version"] = "gemv";
  EXPECT_NE(folder.refusal().find("\"gemv\""), std::string::npos);
  folder.config["version"] = "gemm";
  folder.config["zero_point"] = false;
  EXPECT_NE(folder.refusal().find("zero_point"), std::string::npos);
  folder.config.erase("zero_point");
  folder.config["group_size"] = 3;
  EXPECT_NE(folder.refusal().find("groups of 3"), std::string::npos);
  folder.config["group_size"] = 4;
  folder.tensors.push_back(stored<float>("mlp.act.scales", "F32", {1}, {1}));
  EXPECT_NE(folder.refusal().find("mlp.act.scales"), std::string::npos);
}

TEST(QuantisedCheckpoint, Fp8) {
  Folder folder;
  folder.config = {{"quant_method", "fp8"}, {"activation_scheme", "dynamic"}, {"weight_block_size", {2, 3}}};
  const std::vector<uint8_t> codes = {0x38, 0x40, 0x01, 0xb8, 0x30, 0x44, 0x7e, 0x00, 0x80, 0x39, 0x41, 0x42};  // 3 × 4
  folder.tensors = {stored("c.weight", "F8_E4M3", {3, 4}, codes), stored<float>("c.weight_scale_inv", "F32", {2, 2}, {1, 2, 3, 4}),
                    stored<bf16>("d.weight", "BF16", {1, 1}, {0x3f80})};
  const std::vector<float> want = {1, 2, 0x1p-9f, -2, 0.5f, 3, 448, 0, -0.0f, 3 * 1.125f, 3 * 2.25f, 4 * 2.5f};
  EXPECT_EQ(values_of(*folder.open(), "c.weight"), want);
  folder.of("c.weight_scale_inv").shape = {4, 1};
  EXPECT_NE(folder.refusal().find("expected [2, 2]"), std::string::npos);
  folder.of("c.weight_scale_inv") = stored<float>("c.weight_scale_inv", "F32", {}, {0.5f});
  folder.config["weight_block_size"] = nullptr;
  folder.tensors.push_back(stored<float>("c.activation_scale", "F32", {}, {1}));
  const auto source = folder.open();
  EXPECT_EQ(source->tensors().size(), 2u);
  EXPECT_EQ(values_of(*source, "c.weight")[5], 1.5f);
  folder.drop("c.weight_scale_inv");
  EXPECT_NE(folder.refusal().find("c.weight_scale_inv is missing"), std::string::npos);
  folder.config["weight_block_size"] = {0, 128};
  EXPECT_NE(folder.refusal().find("weight_block_size"), std::string::npos);
}

Json group_of(Json weights) { return {{"targets", {"Linear"}}, {"weights", std::move(weights)}}; }

TEST(QuantisedCheckpoint, CompressedTensors) {
  Folder folder;
  folder.config = {{"quant_method", "compressed-tensors"},
                   {"format", "mixed-precision"},
                   {"quantization_status", "compressed"},
                   {"ignore", {"lm_head"}}};
  Json& groups = folder.config["config_groups"];
  groups["0"] = group_of({{"num_bits", 4}, {"type", "int"}, {"strategy", "group"}, {"group_size", 4}, {"symmetric", false}});
  groups["1"] = group_of({{"num_bits", 8}, {"type", "int"}, {"strategy", "channel"}, {"symmetric", true}});
  groups["1"]["targets"] = {"re:.*down$"};
  groups["2"] = group_of({{"num_bits", 4}, {"type", "float"}, {"strategy", "tensor_group"}, {"group_size", 16}});
  groups["2"]["targets"] = {"x.four"};
  // x.up [2, 12]: codes 0 to 11 and 4 to 15, which 4 more columns' bits follow
  const std::vector<uint32_t> packed = {0x76543210, 0xba98, 0xba987654, 0xfedc}, zeros = {0x00000021, 0x00000043, 0x00000065};
  const std::vector<uint8_t> eight = {1, 0xff, 0x80, 0x7f}, four(32, 0x21), steps = {0x38, 0x40, 0x38, 0x30};
  folder.tensors = {stored("x.up.weight_packed", "I32", {2, 2}, packed),
                    stored<int64_t>("x.up.weight_shape", "I64", {2}, {2, 12}),
                    stored<float>("x.up.weight_scale", "F32", {2, 3}, {1, 2, 3, 4, 5, 6}),
                    stored("x.up.weight_zero_point", "I32", {1, 3}, zeros),
                    stored("x.down.weight", "I8", {2, 2}, eight),
                    stored<bf16>("x.down.weight_scale", "BF16", {2, 1}, {0x3f80, 0x4000}),
                    stored<float>("x.down.input_scale", "F32", {1}, {1}),
                    stored("x.four.weight_packed", "U8", {2, 16}, four),
                    stored("x.four.weight_scale", "F8_E4M3", {2, 2}, steps),
                    stored<float>("x.four.weight_global_scale", "F32", {1}, {4}),
                    stored<float>("y.weight", "F32", {1, 1}, {1})};
  const auto source = folder.open();
  EXPECT_EQ(source->tensors().size(), 4u);
  const std::vector<float> up = values_of(*source, "x.up.weight");
  ASSERT_EQ(up.size(), 24u);
  for (int r = 0; r < 2; ++r)
    for (int c = 0; c < 12; ++c)
      EXPECT_EQ(up[static_cast<size_t>(12 * r + c)], static_cast<float>((4 * r + c - (2 * (c / 4) + 1 + r)) * (3 * r + c / 4 + 1)))
          << r << " " << c;
  EXPECT_EQ(values_of(*source, "x.down.weight"), (std::vector<float>{1, -1, -256, 254}));
  const std::vector<float> of_four = values_of(*source, "x.four.weight");
  ASSERT_EQ(of_four.size(), 64u);
  EXPECT_EQ(of_four[0], 0.5f / 4);
  EXPECT_EQ(of_four[17], 1.0f * 2 / 4);
  EXPECT_EQ(of_four[63], 0.5f / 4);

  const auto refused = [&](const std::function<void(Folder&)>& change) {
    Folder other{folder.config, folder.tensors};
    change(other);
    return other.refusal();
  };
  EXPECT_NE(refused([](Folder& f) { f.config["format"] = "marlin-24"; }).find("marlin-24"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["quantization_status"] = "frozen"; }).find("frozen"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["sparsity_config"] = {{"format", "sparse-24-bitmask"}}; }).find("sparse"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) {
              f.config["transform_config"]["config_groups"]["R1"] = {{"type", "hadamard"}};
            }).find("transform_config"),
            std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["ignore"] = {"x.down"}; }).find("lists \"x.down\""), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["config_groups"]["1"]["targets"] = {"re:(["}; }).find("expression"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["config_groups"].erase("0"); }).find("no group for it"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.config["config_groups"]["0"]["weights"]["num_bits"] = 5; }).find("5 bits"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) {
              f.of("x.up.weight_shape") = stored<int64_t>("x.up.weight_shape", "I64", {2}, {2, 20});
            }).find("expected [2, 3]"),
            std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.drop("x.up.weight_zero_point"); }).find("weight_zero_point is missing"), std::string::npos);
  EXPECT_NE(refused([](Folder& f) { f.of("x.down.weight").type = "F8_E4M3"; }).find("whole numbers of 8 bits"), std::string::npos);
  Folder zero{folder.config, folder.tensors};
  zero.of("x.four.weight_global_scale") = stored<float>("x.four.weight_global_scale", "F32", {1}, {0});
  const auto opened = zero.open();
  EXPECT_THROW(values_of(*opened, "x.four.weight"), Error);
}

// [4, 8] in 4 bits, groups of 8 along axis 1 or of 2 along axis 0: element i has code (3 i) % 16, group g the zero g + 0.5 and the scale
// 2^-g.
Folder hqq(int32_t axis) {
  Folder folder;
  folder.config = {{"quant_method", "hqq"}, {"quant_config", Json::object()}, {"skip_modules", {"lm_head"}}};
  const int32_t group_size = axis == 1 ? 8 : 2, groups = 32 / group_size;
  std::vector<uint8_t> codes(16);
  for (uint8_t i = 0; i < 16; ++i) codes[i] = static_cast<uint8_t>(3 * i % 16 << 4 | 3 * (i + 16) % 16);  // the first half in the high bits
  std::vector<float> scale, zero;
  for (int g = 0; g < groups; ++g) scale.push_back(std::ldexp(1.0f, -g)), zero.push_back(static_cast<float>(g) + 0.5f);
  const std::vector<int64_t> tables = axis == 1 ? std::vector<int64_t>{groups, 1} : std::vector<int64_t>{1, groups};
  folder.tensors = {stored("a.W_q", "U8", {axis == 1 ? 2 : 1, axis == 1 ? 8 : 16}, codes),
                    stored("a.scale", "F32", tables, scale),
                    stored("a.zero", "F32", tables, zero),
                    stored<int64_t>("a.shape", "I64", {2}, {4, 8}),
                    stored<int32_t>("a.nbits", "I32", {}, {4}),
                    stored<int32_t>("a.group_size", "I32", {}, {group_size}),
                    stored<int32_t>("a.axis", "I32", {}, {axis}),
                    stored<uint8_t>("a.packing", "U8", {7}, {'4', 'b', 'i', 't', '_', 'u', '8'}),
                    stored<uint8_t>("a.quant_zero", "U8", {}, {0}),
                    stored<float>("a.bias", "F32", {4}, {1, 2, 3, 4})};
  return folder;
}

TEST(QuantisedCheckpoint, Hqq) {
  for (const int axis : {0, 1}) {
    const auto source = hqq(axis).open();
    EXPECT_EQ(source->tensors().size(), 2u);  // the weight and its bias
    const std::vector<float> values = values_of(*source, "a.weight");
    ASSERT_EQ(values.size(), 32u);
    for (int i = 0; i < 32; ++i) {
      const int group = axis == 1 ? i / 8 : i % 16;
      EXPECT_EQ(values[static_cast<size_t>(i)],
                (static_cast<float>(3 * i % 16) - (static_cast<float>(group) + 0.5f)) * std::ldexp(1.0f, -group))
          << axis << " " << i;
    }
  }
  const auto refused = [&](const std::function<void(Folder&)>& change) {
    Folder folder = hqq(1);
    change(folder);
    return folder.refusal();
  };
  const auto has = [](const std::string& text, const char* part) { EXPECT_NE(text.find(part), std::string::npos) << text; };
  has(refused([](Folder& f) { f.of("a.nbits") = stored<int32_t>("a.nbits", "I32", {}, {7}); }), "7 bits");
  has(refused([](Folder& f) { f.of("a.axis") = stored<int32_t>("a.axis", "I32", {}, {2}); }), "axis 2");
  has(refused([](Folder& f) { f.of("a.group_size") = stored<int32_t>("a.group_size", "I32", {}, {0}); }), "group_size 0");
  has(refused([](Folder& f) { f.of("a.group_size") = stored<int32_t>("a.group_size", "I32", {}, {7}); }), "does not divide");
  has(refused([](Folder& f) { f.of("a.shape") = stored<int64_t>("a.shape", "I64", {2}, {4, -8}); }), "two sizes");
  has(refused([](Folder& f) { f.of("a.shape") = stored<int64_t>("a.shape", "I64", {2}, {8, 8}); }), "16 bytes, expected 32");
  has(refused([](Folder& f) { f.of("a.quant_zero") = stored<uint8_t>("a.quant_zero", "U8", {}, {1}); }), "quant_zero");
  has(refused([](Folder& f) { f.of("a.zero") = stored<f16>("a.zero", "F16", {4, 1}, {0, 0, 0, 0}); }), "its scales as F32");
  has(refused([](Folder& f) { f.of("a.scale") = stored<float>("a.scale", "F32", {3, 1}, {1, 1, 1}); }), "each of 4 groups");
  has(refused([](Folder& f) { f.drop("a.nbits"); }), "a.nbits is not there");
  has(refused([](Folder& f) { f.drop("a.zero"); }), "a.zero is missing");
  has(refused([](Folder& f) { f.config["skip_modules"] = {"a"}; }), "skip_modules");
}

// [2, 16]: 1x16, the book's vector v being v + 0, v + 1, … / 8, and 2x8, whose second book is a thousandth of the first.
Folder aqlm(bool two) {
  Folder folder;
  folder.config = {{"quant_method", "aqlm"},
                   {"in_group_size", 8},
                   {"out_group_size", 1},
                   {"num_codebooks", two ? 2 : 1},
                   {"nbits_per_codebook", two ? 8 : 16}};
  const int64_t books = two ? 2 : 1, size = two ? 256 : 65536;
  std::vector<float> book;
  for (int64_t b = 0; b < books; ++b)
    for (int64_t v = 0; v < size; ++v)
      for (int64_t j = 0; j < 8; ++j) book.push_back(static_cast<float>(8 * v + j) / (b ? 1024.0f : 8.0f));
  folder.tensors = {two ? stored<int8_t>("a.codes", "I8", {2, 2, 2}, {0, 1, -1, 2, 5, -128, 127, 0})
                        : stored<int16_t>("a.codes", "I16", {2, 2, 1}, {0, -1, 300, -32768}),
                    stored("a.codebooks", "F32", {books, size, 1, 8}, book),
                    stored<f16>("a.scales", "F16", {2, 1, 1, 1}, {0x3c00, 0x3800})};
  return folder;
}

TEST(QuantisedCheckpoint, Aqlm) {
  for (const bool two : {false, true}) {
    const std::vector<float> values = values_of(*aqlm(two).open(), "a.weight");
    ASSERT_EQ(values.size(), 32u);
    const int codes[] = {0, 65535, 300, 32768}, first[] = {0, 255, 5, 127}, second[] = {1, 2, 128, 0};
    for (int i = 0; i < 32; ++i) {
      const int g = i / 8, j = i % 8;
      const float sum = two ? static_cast<float>(8 * first[g] + j) / 8 + static_cast<float>(8 * second[g] + j) / 1024
                            : static_cast<float>(8 * codes[g] + j) / 8;
      EXPECT_EQ(values[static_cast<size_t>(i)], sum * (i < 16 ? 1.0f : 0.5f)) << two << " " << i;
    }
  }
  const auto refused = [&](const std::function<void(Folder&)>& change) {
    Folder folder = aqlm(true);
    change(folder);
    return folder.refusal();
  };
  const auto has = [](const std::string& text, const char* part) { EXPECT_NE(text.find(part), std::string::npos) << text; };
  has(refused([](Folder& f) { f.config["in_group_size"] = 16; }), "groups of 1 x 16");
  has(refused([](Folder& f) { f.config["num_codebooks"] = 4; }), "4 code books of 8 bits");
  has(refused([](Folder& f) { f.drop("a.scales"); }), "a.scales is missing");
  has(refused([](Folder& f) { f.of("a.codes").type = "U8"; }), "expected I8");
  has(refused([](Folder& f) { f.of("a.codes").shape = {2, 4, 1}; }), "expected [out, in / 8, 2]");
  has(refused([](Folder& f) { f.of("a.scales").shape = {1, 2, 1, 1}; }), "expected [2, 1, 1, 1]");
  has(refused([](Folder& f) { f.of("a.codebooks").shape = {2, 256, 8, 1}; }), "expected [2, 256, 1, 8]");
}

}  // namespace
}  // namespace loraine::quantised_checkpoint_test
