// Tests of the safetensors reader and writer, sharded folders, durable files and JSON reading: round trips and malformed bytes.
#include "loraine/io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/durable_file.h"
#include "loraine/io/model_files.h"

namespace loraine {
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
      {"where none belongs", with_header(R"({"__metadata__":{"a":1}})", 0)},
      {"where none belongs", with_header(R"({"__metadata__":{"a":{}}})", 0)},
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

TEST(Sharded, IndexIsChecked) {
  std::string model = folder() + "/sharded";
  make_folders(model);
  float x[4] = {1, 2, 3, 4};
  auto shard = [&](const std::string& name, std::vector<std::string> tensors) {
    std::vector<std::pair<std::string, Tensor>> all;
    for (auto& tensor : tensors) all.push_back({tensor, Tensor(x, Dtype::F32, {4})});
    write_safetensors(model + "/" + name, all, {});
  };
  auto open = [&](const std::string& weight_map) -> std::string {
    write_file(model + "/model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":" + weight_map + "}");
    try {
      return std::to_string(open_tensor_source(model)->tensors().size());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, ErrorKind::bad_data);
      return error.what();
    }
  };
  shard("1.safetensors", {"a", "b"});
  shard("2.safetensors", {"c"});
  shard("3.safetensors", {"b"});
  write_safetensors(folder() + "/outside.safetensors", {{"c", Tensor(x, Dtype::F32, {4})}}, {});
  EXPECT_EQ(open(R"({"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"})"), "3");
  EXPECT_NE(open(R"({"a":"1.safetensors","c":"4.safetensors"})").find("no such file"), std::string::npos);
  EXPECT_NE(open(R"({"a":"1.safetensors","c":"../outside.safetensors"})").find("same folder"), std::string::npos);
  EXPECT_NE(open("{\"c\":\"" + folder() + "/outside.safetensors\"}").find("same folder"), std::string::npos);
  EXPECT_NE(open(R"({"a":"1.safetensors","b":"3.safetensors"})").find("is in both"), std::string::npos);
  EXPECT_NE(open(R"({"c":"1.safetensors"})").find("is not"), std::string::npos);
  EXPECT_NE(open(R"({"a":"1.safetensors","a":"2.safetensors"})").find("twice"), std::string::npos);
  EXPECT_NE(open(R"({"a":7})").find("not a string"), std::string::npos);
  EXPECT_NE(open("[]").find("weight_map"), std::string::npos);
}

TEST(DurableFile, AppearsOnlyWhenCommitted) {
  std::string path = folder() + "/durable.txt";
  {
    DurableFile file(path);
    file.write("half", 4);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  write_file(path, "one");
  write_file(path, "two");
  EXPECT_EQ(read_file(path), "two");
  EXPECT_THROW(read_file(path, 2), Error);
  for (const auto& entry : std::filesystem::directory_iterator(folder())) EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos);
  try {
    write_file(folder() + "/absent/file", "x");
    ADD_FAILURE();
  } catch (const Error& error) { EXPECT_EQ(error.kind, ErrorKind::io); }
}

TEST(JsonFile, PositionsDuplicatesAndDepth) {
  std::string path = folder() + "/some.json";
  auto parse = [&](const std::string& text) -> std::string {
    write_file(path, text);
    try {
      return parse_json_file(path).dump();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, ErrorKind::bad_data);
      return error.what();
    }
  };
  EXPECT_EQ(parse("{\"a\": [1, {\"a\": 2.5}]}\n"), R"({"a":[1,{"a":2.5}]})");
  EXPECT_NE(parse("{\n  \"a\": x\n}").find("line 2, column 8"), std::string::npos) << parse("{\n  \"a\": x\n}");
  EXPECT_NE(parse("{\"a\": 1,\n \"a\": 2}").find("line 2"), std::string::npos);
  EXPECT_NE(parse("{\"a\": 1,\n \"a\": 2}").find("twice"), std::string::npos);
  EXPECT_NE(parse(std::string(1000000, '[')).find("nested deeper"), std::string::npos);
  EXPECT_NE(parse("{} {}").find("line 1"), std::string::npos);
  EXPECT_NE(parse(std::string("{}\0x", 4)).find("NUL"), std::string::npos);
  EXPECT_NE(parse("").find("line 1"), std::string::npos);
  EXPECT_NE(parse("{\"\xff\":1}").find("line 1"), std::string::npos);
}

TEST(ModelFiles, ChatTemplatesOfAFolder) {
  std::string model = folder() + "/hf";
  make_folders(model);
  float x = 1;
  EXPECT_THROW(open_model_files(model), Error);
  write_file(model + "/config.json", R"({"model_type":"llama"})");
  write_safetensors(model + "/model.safetensors", {{"a", Tensor(&x, Dtype::F32, {1})}}, {});
  EXPECT_FALSE(open_model_files(model).chat_template);
  write_file(model + "/tokenizer_config.json", R"({"chat_template":[{"name":"tool","template":"T"},{"name":"default","template":"D"}]})");
  EXPECT_EQ(open_model_files(model).chat_template, "D");
  write_file(model + "/chat_template.jinja", "J");
  ModelFiles files = open_model_files(model);
  EXPECT_EQ(files.chat_template, "J");
  EXPECT_EQ((*files.tokenizer_config)["chat_template"], "J");
  EXPECT_EQ(files.config["model_type"], "llama");
  EXPECT_THROW(open_model_files(folder() + "/nowhere"), Error);
}

}  // namespace
}  // namespace loraine
