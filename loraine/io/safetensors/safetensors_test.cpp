// Tests of the safetensors reader and writer, sharded folders, durable files and JSON reading: round trips and malformed bytes.
#include "loraine/io/safetensors/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::safetensors_test {
namespace {

std::string folder() {
  static std::string made = [] {
    char name[] = "/tmp/loraine_io_XXXXXX";
    return std::string(mkdtemp(name));
  }();
  return made;
}

std::string with_header(const std::string& header, size_t data_bytes, uint64_t length = UINT64_MAX) {
  if (length == UINT64_MAX) length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data_bytes, '\1');
}

std::string message_of(const std::string& bytes) {
  std::string file = folder() + "/bad.safetensors";
  write_file(file, bytes);
  try {
    open_safetensors(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::bad_data);
    return error.what();
  }
  return "accepted";
}

TEST(Safetensors, RefusesMalformedFiles) {
  struct Case {
    const char* expected;
    std::string bytes;
  };
  std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(message_of(with_header(good, 8)), "accepted");
  EXPECT_EQ(message_of(with_header(good + "   ", 8)), "accepted");
  EXPECT_EQ(message_of(with_header("{}", 0)), "accepted");
  EXPECT_EQ(message_of(with_header(R"({"__metadata__":{"format":"pt"}})", 0)), "accepted");
  EXPECT_EQ(message_of(with_header(R"({"z":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]}})", 0)), "accepted");
  EXPECT_EQ(message_of(with_header(R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4)), "accepted");
  EXPECT_EQ(message_of(with_header(R"({"s":{"new":[{"x":[1]}],"dtype":"F32","more":1,"shape":[],"data_offsets":[0,4]}})", 4)), "accepted");
  const Case cases[] = {
      {"has 0 bytes", ""},
      {"has 7 bytes", "1234567"},
      {"but only 0 follow", std::string("\x10\0\0\0\0\0\0\0", 8)},
      {"expected at most 100000000", with_header(good, 8, 1ull << 63)},
      {"expected at most 100000000", with_header(good, 8, 100000001)},
      {"but only", with_header(good, 8, good.size() + 9)},
      {"does not start with", with_header(" " + good, 8)},
      {"does not start with", with_header("", 0)},
      {"UTF-8", with_header("{\"\xff\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8)},
      {"NUL", with_header(good + std::string(1, '\0') + "x", 8)},
      {"not valid JSON", with_header(good.substr(0, 20), 8)},
      {"not valid JSON", with_header(good + "x", 8)},
      {"duplicate keys",
       with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"\u0061":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
                   8)},
      {"dtype twice", with_header(R"({"a":{"dtype":"F32","dtype":"U8","shape":[2],"data_offsets":[0,8]}})", 8)},
      {"duplicate keys", with_header(R"({"__metadata__":{"a":"b","a":"c"}})", 0)},
      {R"(in "__metadata__" at "a", has a number)", with_header(R"({"__metadata__":{"a":1}})", 0)},
      {R"(in "__metadata__" at "a", has an object)", with_header(R"({"__metadata__":{"a":{}}})", 0)},
      {R"(at "__metadata__", has a string)", with_header(R"({"__metadata__":"a"})", 0)},
      {R"(at "__metadata__", has a list)", with_header(R"({"__metadata__":["a"]})", 0)},
      {"where none belongs", with_header(R"({"a":1})", 0)},
      {"where none belongs", with_header(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8)},
      {"where none belongs", with_header(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8)},
      {"where none belongs", with_header(R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", 8)},
      {"no dtype", with_header(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8)},
      {"fewer than two", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8)},
      {"more than two", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", 8)},
      {"unknown type", with_header(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8)},
      {"takes 12 bytes", with_header(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8)},
      {"has data_offsets", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8)},
      {"overlap",
       with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12)},
      {"hole", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12)},
      {"bytes, but 9 follow", with_header(good, 9)},
      {"bytes, but 7 follow", with_header(good, 7)},
      {"too large", with_header(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4,2],"data_offsets":[0,8]}})", 8)},
      {"too large", with_header(R"({"a":{"dtype":"F32","shape":[4294967297,4294967297],"data_offsets":[0,4]}})", 4)},
      {"a dimension of", with_header(R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}})", 8)},
      {"does not end on a byte", with_header(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2)},
      {"too deep", with_header(R"({"a":{"x":)" + std::string(100000, '['), 0)},
      {"not valid JSON", with_header(R"({"a":{"dtype":"F32","shape":[99999999999999999999999e999999],"data_offsets":[0,8]}})", 8)},
  };
  for (const Case& c : cases)
    EXPECT_NE(message_of(c.bytes).find(c.expected), std::string::npos) << c.expected << " in " << message_of(c.bytes);
  // Cut anywhere, a file is refused.
  std::string whole = with_header(good, 8);
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_NE(message_of(whole.substr(0, n)), "accepted") << n;
}

TEST(Safetensors, RefusesWhatIsNoRegularFile) {
  std::string pipe = folder() + "/pipe.safetensors";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string& path : {pipe, folder(), std::string("/dev/zero"), folder() + "/absent.safetensors"}) {
    try {
      open_safetensors(path);
      ADD_FAILURE() << path;
    } catch (const Error& error) { EXPECT_EQ(error.kind, ErrorKind::bad_data) << path; }
    EXPECT_THROW(read_file(path), Error);
  }
}

TEST(Safetensors, RoundTripAndConversion) {
  std::vector<float> a = {1.5f, -2, 3, 4, 5, 6};
  std::vector<bf16> b = {f32_to_bf16(0.5f), f32_to_bf16(7)};
  std::vector<int64_t> c = {-1};
  uint8_t d = 9;
  std::string file = folder() + "/round.safetensors";
  write_safetensors(file,
                    {{"a", Tensor(a.data(), Dtype::F32, {2, 3})},
                     {"b", Tensor(b.data(), Dtype::BF16, {2})},
                     {"c", Tensor(c.data(), Dtype::I64, {1})},
                     {"d", Tensor(&d, Dtype::U8, {})}},
                    {{"format", "pt"}});
  auto source = open_safetensors(file);
  ASSERT_EQ(source->tensors().size(), 4u);
  EXPECT_EQ(source->find("nothing"), nullptr);
  const TensorInfo* info = source->find("a");
  ASSERT_NE(info, nullptr);
  EXPECT_EQ(info->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(source->map(*info).data, a.data(), 24), 0);
  std::vector<bf16> narrow(6);
  source->read(*info, Tensor(narrow.data(), Dtype::BF16, {2, 3}));
  EXPECT_EQ(bf16_to_f32(narrow[1]), -2.0f);
  std::vector<float> wide(8, -9);
  Tensor strided = Tensor(wide.data(), Dtype::F32, {2, 4}).col_range(1, 3);
  source->read(*info, strided);
  EXPECT_EQ(wide, (std::vector<float>{-9, 1.5f, -2, 3, -9, 4, 5, 6}));
  EXPECT_THROW(source->read(*info, Tensor(wide.data(), Dtype::F32, {2, 4})), Error);
  EXPECT_THROW(source->read(*source->find("c"), Tensor(wide.data(), Dtype::F32, {1})), Error);
  EXPECT_EQ(*static_cast<int64_t*>(source->map(*source->find("c")).data), -1);
  EXPECT_EQ(source->map(*source->find("d")).rank, 0);
}

TEST(Safetensors, UnalignedDataIsReadNotMapped) {
  std::string file = folder() + "/odd.safetensors";
  float value = 2.5f;
  std::string bytes = with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 0);
  while (bytes.size() % 4 == 0) { bytes = with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} )", 0); }
  write_file(file, bytes + std::string(reinterpret_cast<char*>(&value), 4));
  auto source = open_safetensors(file);
  EXPECT_EQ(source->map(source->tensors()[0]).data, nullptr);
  bf16 out = 0;
  source->read(source->tensors()[0], Tensor(&out, Dtype::BF16, {1}));
  EXPECT_EQ(bf16_to_f32(out), 2.5f);
}

// Files of the reference library, written again, have the same bytes.
TEST(Safetensors, SameBytesAsReference) {
  std::string root = LORAINE_SOURCE_DIR "/../shared/golden/peft/llama/";
  if (!std::filesystem::exists(root)) GTEST_SKIP() << "no golden files";
  for (const char* name : {"lora/adapter_model.safetensors", "base.safetensors", "batches.safetensors"}) {
    std::string before = read_file(root + name);
    auto source = open_safetensors(root + name);
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const TensorInfo& info : source->tensors()) tensors.push_back({info.name, source->map(info)});
    std::map<std::string, std::string> metadata;
    if (before.find("\"__metadata__\":{\"format\":\"pt\"}") < 100) metadata["format"] = "pt";
    std::string file = folder() + "/again.safetensors";
    write_safetensors(file, tensors, metadata);
    EXPECT_TRUE(read_file(file) == before) << name;
  }
}

}  // namespace
}  // namespace loraine::safetensors_test
