// torch's .bin files: what the real torch wrote, what it must be able to read, and files that lie.
#include "loraine/io/torch/torch_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/torch/torch_pickle.h"
#include "loraine/io/torch/zip_file.h"

namespace loraine::torch_file_test {
namespace {

using namespace std::string_literals;

const std::string kRecorded = LORAINE_SOURCE_DIR "/tests/golden/torch/";

std::string temporary(const std::string& name, const std::string& content) {
  const std::string folder = testing::TempDir() + "torch_file_test";
  std::filesystem::create_directories(folder);
  write_file(folder + "/" + name, content);
  return folder + "/" + name;
}

std::string refusal(const std::function<void()>& read) {
  try {
    read();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::bad_data) << error.what();
    return error.what();
  }
  return "";
}
std::string refused_pickle(const std::string& pickle) {
  return refusal([&] { read_state_dict("f", reinterpret_cast<const unsigned char*>(pickle.data()), pickle.size()); });
}
void expect_in(const std::string& part, const std::string& text) { EXPECT_NE(text.find(part), std::string::npos) << text; }

TEST(TorchFile, ValuesEqualTorchs) {
  const auto recorded = nlohmann::json::parse(read_file(kRecorded + "values.json"));
  auto source = open_torch_file(kRecorded + "state_dict.bin");
  ASSERT_EQ(source->tensors().size(), recorded.size());
  for (const TensorInfo& info : source->tensors()) {
    const auto& one = recorded.at(info.name);
    EXPECT_EQ(info.shape, one["shape"].get<std::vector<int64_t>>()) << info.name;
    if (info.dtype != Dtype::F32 && info.dtype != Dtype::F16 && info.dtype != Dtype::BF16 && info.dtype != Dtype::F64) continue;
    std::vector<float> values(one["values"].size());
    source->read(info, Tensor(values.data(), Dtype::F32, info.shape));
    EXPECT_EQ(values, one["values"].get<std::vector<float>>()) << info.name;
    Tensor mapped = source->map(info);
    EXPECT_EQ(mapped.data == nullptr, info.name == "transposed" || info.name == "part" || info.name == "permuted") << info.name;
  }
  EXPECT_EQ(source->find("int16")->dtype, Dtype::I16);
  EXPECT_EQ(source->find("bool")->dtype, Dtype::Bool);
}

TEST(TorchFile, StateOfAnOptimizer) {
  nlohmann::json values;
  const auto source = open_torch_state(kRecorded + "optimizer.pt", values);
  const auto recorded = nlohmann::json::parse(read_file(kRecorded + "optimizer.json"));
  ASSERT_EQ(source->tensors().size(), recorded.size());
  for (const TensorInfo& info : source->tensors()) {
    std::vector<float> found(recorded.at(info.name).size());
    source->read(info, Tensor(found.data(), Dtype::F32, info.shape));
    EXPECT_EQ(found, recorded.at(info.name).get<std::vector<float>>()) << info.name;
  }
  ASSERT_EQ(values["param_groups"].size(), 2u);
  EXPECT_EQ(values["param_groups"][0]["weight_decay"], 0.1);
  EXPECT_EQ(values["param_groups"][0]["betas"], nlohmann::json::parse("[0.9, 0.999]"));
  EXPECT_EQ(values["param_groups"][1]["params"], nlohmann::json::parse("[1]"));
  EXPECT_EQ(values["param_groups"][1]["foreach"], nullptr);
  EXPECT_TRUE(values["state"]["0"]["exp_avg"].is_null());
}

// As hqq's qmodel.pt has them beside its tensors.
TEST(TorchFile, ShapesAndTypesInANestedState) {
  const std::string pickle = "\x80\x02}(X\x05\0\0\0shapectorch\nSize\nK\x03K\x04\x86\x85RX\x04\0\0\0typectorch\nfloat16\nu."s;
  nlohmann::json values;
  EXPECT_TRUE(read_nested_state("f", reinterpret_cast<const unsigned char*>(pickle.data()), pickle.size(), values).empty());
  EXPECT_EQ(values, nlohmann::json({{"shape", {3, 4}}, {"type", "float16"}}));
  for (const std::string& other : {"load"s, "float99"s}) {
    const std::string bad = "\x80\x02}X\x01\0\0\0actorch\n"s + other + "\ns.";
    expect_in("was not run",
              refusal([&] { read_nested_state("f", reinterpret_cast<const unsigned char*>(bad.data()), bad.size(), values); }));
  }
}

TEST(TorchFile, NestedStatesThatCannotBeShown) {
  const auto refused = [](const std::string& pickle) {
    nlohmann::json values;
    return refusal([&] { read_nested_state("f", reinterpret_cast<const unsigned char*>(pickle.data()), pickle.size(), values); });
  };
  expect_in("more than 16 deep", refused("\x80\x02}q\x00X\x01\0\0\0ah\x00s."s));  // a dictionary that holds itself
  std::string lists = "]q\x00"s;                                                  // each holds the former 100 times
  for (char level = 1; level < 6; ++level) {
    lists += "](";
    for (int i = 0; i < 100; ++i) lists += "h"s + static_cast<char>(level - 1);
    lists += "eq"s + level;
  }
  expect_in("more than 4000000 values", refused("\x80\x02}X\x01\0\0\0a]("s + lists + "es."));
  expect_in("a key is neither", refused("\x80\x02}NNs."s));
}

TEST(TorchFile, WhatIsWrittenIsRead) {
  std::vector<float> a(100);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i) / 3;
  std::vector<bf16> b = {f32_to_bf16(1.5f), f32_to_bf16(-2)};
  const std::string file = temporary("written.bin", "");
  stream_torch_file(file, {{"b.weight", Dtype::BF16, {2}}, {"a.weight", Dtype::F32, {10, 10}}}, [&](size_t index, const WriteBytes& write) {
    if (index == 0) write(b.data(), 4);
    else write(a.data(), 400);
  });
  auto source = open_torch_file(file);
  ASSERT_EQ(source->tensors().size(), 2u);
  Tensor mapped = source->map(*source->find("a.weight"));
  ASSERT_NE(mapped.data, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(mapped.data) % 64, 0u);
  EXPECT_EQ(std::vector<float>(mapped.f32(), mapped.f32() + 100), a);
  EXPECT_EQ(static_cast<bf16*>(source->map(*source->find("b.weight")).data)[1], b[1]);
}

TEST(TorchFile, EveryBitFlipIsSeenOrHarmless) {
  const std::string whole = read_file(kRecorded + "state_dict.bin");
  auto values_of = [](const std::string& file) {
    auto source = open_torch_file(file);
    std::vector<float> all;
    for (const TensorInfo& info : source->tensors()) {
      std::vector<float> values(
          static_cast<size_t>(Tensor(nullptr, info.dtype, std::span(info.shape).first(std::min<size_t>(4, info.shape.size()))).numel()));
      if (info.dtype == Dtype::F32 || info.dtype == Dtype::BF16) source->read(info, Tensor(values.data(), Dtype::F32, info.shape));
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  };
  const std::vector<float> expected = values_of(kRecorded + "state_dict.bin");
  int refused = 0;
  for (size_t at = 0; at < whole.size(); at += 7) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    const std::string file = temporary("damaged.bin", damaged);
    std::vector<float> values;
    if (!refusal([&] { values = values_of(file); }).empty()) ++refused;
    else EXPECT_EQ(values, expected) << "byte " << at;
  }
  EXPECT_GT(refused, 100);
  for (size_t length = 0; length < whole.size(); length += 64)
    EXPECT_NE(refusal([&] { open_torch_file(temporary("cut.bin", whole.substr(0, length))); }), "") << length;
}

TEST(TorchFile, NothingIsRun) {
  expect_in("\"os.system\"", refused_pickle("\x80\x02"
                                            "cos\nsystem\nX\x04\x00\x00\x00true\x85R."s));
  expect_in("\"builtins.eval\"", refused_pickle("\x80\x02"
                                                "cbuiltins\neval\n."));
  expect_in("\"os.system\"", refused_pickle("\x80\x02\x8c\x02os\x8c\x06system\x93."));  // STACK_GLOBAL
  expect_in("\"torch FloatStorage\" is called", refused_pickle("\x80\x02"
                                                               "ctorch\nFloatStorage\n)\x81."));  // NEWOBJ
  expect_in("NEWOBJ_EX", refused_pickle("\x80\x02\x92."));
  expect_in("protocol 4", refused_pickle("\x80\x04."));
  expect_in("not a tensor", refused_pickle("\x80\x02}X\x01\x00\x00\x00"
                                           "aK\x01s."s));
  for (const char* broken :
       {"", "\x80", "\x80\x02", "\x80\x02.", "\x80\x02}", "\x80\x02t.", "\x80\x02h\x07.", "\x80\x02}q\x01u.", "\x80\x02R.", "\x80\x02Q.",
        "\x80\x02}}.", "\x80\x02(}.", "\x80\x02}.x", "\x80\x02X\xff\xff\xff\xff", "\x80\x02}(Nu."})
    EXPECT_NE(refused_pickle(broken), "") << broken;
}

// The pickle of one tensor "t" in a storage of `elements` floats.
std::string one_tensor(int elements, const std::string& offset, const std::string& shape, const std::string& stride) {
  auto text = [](const std::string& t) { return "X" + std::string(1, static_cast<char>(t.size())) + std::string(3, '\0') + t; };
  return "\x80\x02}" + text("t") + "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" + text("0") +
         text("cpu") + "K" + std::string(1, static_cast<char>(elements)) + "tQ" + offset + "(" + shape + "t(" + stride + "t\x89}tRs.";
}

TEST(TorchFile, ShapesStayInsideTheirStorage) {
  const std::string two("K\x02", 2), three("K\x03", 2), zero("K\x00", 2), one("K\x01", 2),
      huge("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", 10), negative("J\xff\xff\xff\xff", 5);
  EXPECT_EQ(refused_pickle(one_tensor(6, zero, two + three, three + one)), "");
  EXPECT_EQ(refused_pickle(one_tensor(7, one, two + three, three + one)), "");
  expect_in("beyond its storage", refused_pickle(one_tensor(6, one, two + three, three + one)));
  expect_in("beyond its storage", refused_pickle(one_tensor(6, zero, huge + three, three + one)));
  expect_in("beyond its storage", refused_pickle(one_tensor(6, zero, two + three, huge + one)));
  expect_in("several times over", refused_pickle(one_tensor(3, zero, two + three, zero + one)));
  expect_in("negative", refused_pickle(one_tensor(6, zero, negative, one)));
  expect_in("before its storage", refused_pickle(one_tensor(6, negative, two, one)));
  expect_in("another number of dimensions", refused_pickle(one_tensor(6, zero, two, one + one)));
}

TEST(ZipFile, RefusesByName) {
  const std::string whole = read_file(kRecorded + "state_dict.bin");
  auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    for (size_t at = text.find(from); at != text.npos; at = text.find(from, at + 1)) text.replace(at, to.size(), to);
    return refusal([&] { open_torch_file(temporary("changed.bin", text)); });
  };
  expect_in("is there twice", changed("state_dict/data/1", "state_dict/data/0"));
  expect_in("leads out of the archive", changed("state_dict/byteorder", "state_dict/../../xx"));
  std::string deflated = whole;
  const size_t central = deflated.rfind("PK\x01\x02");
  deflated[central + 10] = 8;
  expect_in("is compressed", refusal([&] { open_torch_file(temporary("deflated.bin", deflated)); }));
  deflated[central + 10] = 0, deflated[central + 8] |= 1;
  expect_in("is encrypted", refusal([&] { open_torch_file(temporary("encrypted.bin", deflated)); }));
  expect_in("before 1.6", refusal([&] { open_torch_file(temporary("old.bin", "\x80\x02\x8a\x0al\xfc\x9c")); }));
}

}  // namespace
}  // namespace loraine::torch_file_test
