// Tests of the GGUF reader: handcrafted good and bad files, block formats, names, row order, tokenizers, and (when at hand) a real model.
#include "loraine/io/gguf_model.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/gguf/gguf.h"
#include "loraine/io/gguf/gguf_config.h"
#include "loraine/io/gguf/gguf_names.h"

namespace loraine::gguf_model_test {
namespace {

std::string folder() {
  static std::string made = [] {
    char name[] = "/tmp/loraine_gguf_XXXXXX";
    return std::string(mkdtemp(name));
  }();
  return made;
}

struct Bytes {
  std::string out;
  template <class T>
  Bytes& number(T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& text(const std::string& value) {
    number<uint64_t>(value.size());
    out += value;
    return *this;
  }
};

struct TestTensor {
  std::string name;
  std::vector<uint64_t> ne;
  uint32_t type = 0;
  uint64_t offset = 0;
};

// A GGUF file under construction; each part can be made wrong.
struct TestFile {
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t extra_tensors = 0, extra_keys = 0;
  std::vector<std::pair<std::string, std::string>> keys;  // key, type and value bytes
  std::vector<TestTensor> tensors;
  std::string data;
  uint64_t alignment = 32;

  void key(const std::string& name, uint32_t value) { keys.push_back({name, Bytes().number<uint32_t>(4).number(value).out}); }
  void key(const std::string& name, float value) { keys.push_back({name, Bytes().number<uint32_t>(6).number(value).out}); }
  void key(const std::string& name, bool value) { keys.push_back({name, Bytes().number<uint32_t>(7).number<uint8_t>(value).out}); }
  void key(const std::string& name, const std::string& value) { keys.push_back({name, Bytes().number<uint32_t>(8).text(value).out}); }
  void key(const std::string& name, const char* value) { key(name, std::string(value)); }
  void key(const std::string& name, const std::vector<std::string>& values) {
    Bytes b;
    b.number<uint32_t>(9).number<uint32_t>(8).number<uint64_t>(values.size());
    for (auto& value : values) b.text(value);
    keys.push_back({name, b.out});
  }
  template <class T>
  void key(const std::string& name, uint32_t type, const std::vector<T>& values) {
    Bytes b;
    b.number<uint32_t>(9).number<uint32_t>(type).number<uint64_t>(values.size());
    for (auto& value : values) b.number(value);
    keys.push_back({name, b.out});
  }
  void tensor(const std::string& name, std::vector<uint64_t> ne, uint32_t type, const std::string& bytes) {
    tensors.push_back({name, ne, type, data.size()});
    data += bytes;
    data.append((alignment - data.size() % alignment) % alignment, '\0');
  }
  std::string bytes() const {
    Bytes b;
    b.out = magic;
    b.number(version).number<uint64_t>(tensors.size() + extra_tensors).number<uint64_t>(keys.size() + extra_keys);
    for (auto& [name, value] : keys) {
      b.text(name);
      b.out += value;
    }
    for (auto& t : tensors) {
      b.text(t.name).number<uint32_t>(static_cast<uint32_t>(t.ne.size()));
      for (uint64_t n : t.ne) b.number(n);
      b.number(t.type).number(t.offset);
    }
    if (!tensors.empty()) b.out.append((alignment - b.out.size() % alignment) % alignment, '\0');
    return b.out + data;
  }
};

std::string f32_bytes(const std::vector<float>& values) { return {reinterpret_cast<const char*>(values.data()), values.size() * 4}; }

std::string message_of(const std::string& bytes) {
  std::string file = folder() + "/bad.gguf";
  write_file(file, bytes);
  try {
    GgufFile opened(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::bad_data);
    return error.what();
  }
  return "accepted";
}

TestFile small() {
  TestFile file;
  file.key("general.architecture", "llama");
  file.tensor("token_embd.weight", {4, 2}, 0, f32_bytes({1, 2, 3, 4, 5, 6, 7, 8}));
  file.tensor("output_norm.weight", {4}, 0, f32_bytes({1, 1, 1, 1}));
  return file;
}

template <class Change>
std::string changed(Change&& change) {
  TestFile file = small();
  change(file);
  return message_of(file.bytes());
}

TEST(Gguf, RefusesMalformedFiles) {
  using F = TestFile&;
  EXPECT_EQ(changed([](F) {}), "accepted");
  EXPECT_EQ(changed([](F f) { f.version = 2; }), "accepted");
  std::vector<std::pair<const char*, std::string>> cases = {
      {"expected \"GGUF\"", changed([](F f) { f.magic = "GGML"; })},
      {"version 0", changed([](F f) { f.version = 0; })},
      {"version 1", changed([](F f) { f.version = 1; })},
      {"version 4", changed([](F f) { f.version = 4; })},
      {"big-endian", changed([](F f) { f.version = 3u << 24; })},
      {"tensors, more than", changed([](F f) { f.extra_tensors = UINT64_MAX - 5; })},
      {"keys, more than", changed([](F f) { f.extra_keys = UINT64_MAX - 5; })},
      {"at byte", changed([](F f) { f.extra_tensors = 2; })},
      {"stands twice", changed([](F f) { f.key("general.architecture", "llama"); })},
      {"a metadata key is", changed([](F f) { f.key("", "x"); })},
      {"unknown type 13", changed([](F f) {
         f.keys.push_back({"k", Bytes().number<uint32_t>(13).number<uint64_t>(0).out});
       })},
      {"boolean of value 2", changed([](F f) {
         f.keys.push_back({"k", Bytes().number<uint32_t>(7).number<uint8_t>(2).out});
       })},
      {"only", changed([](F f) {
         f.keys.push_back({"k", Bytes().number<uint32_t>(8).number<uint64_t>(UINT64_MAX).out});
       })},
      {"array of arrays", changed([](F f) {
         f.keys.push_back({"k", Bytes().number<uint32_t>(9).number<uint32_t>(9).number<uint64_t>(1).out});
       })},
      {"strings, more than", changed([](F f) {
         f.keys.push_back({"k", Bytes().number<uint32_t>(9).number<uint32_t>(8).number<uint64_t>(1ull << 60).out});
       })},
      {"elements, more than", changed([](F f) {
         f.keys.push_back({"k", Bytes().number<uint32_t>(9).number<uint32_t>(4).number<uint64_t>(1ull << 62).out});
       })},
      {"alignment 24", changed([](F f) { f.key("general.alignment", 24u); })},
      {"alignment 0", changed([](F f) { f.key("general.alignment", 0u); })},
      {"is not a U32", changed([](F f) { f.key("general.alignment", "32"); })},
      {"two tensors are named", changed([](F f) { f.tensors[1].name = "token_embd.weight"; })},
      {"is named", changed([](F f) { f.tensors[1].name = ""; })},
      {"0 dimensions", changed([](F f) { f.tensors[1].ne = {}; })},
      {"5 dimensions", changed([](F f) {
         f.tensors[1].ne = {1, 1, 1, 1, 1};
       })},
      {"dimension of 0", changed([](F f) { f.tensors[1].ne = {0}; })},
      {"a dimension of", changed([](F f) {
         f.tensors[1].ne = {1ull << 32, 1ull << 32};
       })},
      {"a dimension of", changed([](F f) { f.tensors[1].ne = {1ull << 63}; })},
      {"too large", changed([](F f) { f.tensors[1].ne = {1ull << 62}; })},
      {"unknown type 4", changed([](F f) { f.tensors[1].type = 4; })},
      {"unknown type 4294967295", changed([](F f) { f.tensors[1].type = UINT32_MAX; })},
      {"multiple of 32", changed([](F f) { f.tensors[1].type = 8; })},
      {"multiple of 32", changed([](F f) { f.tensors[1].offset = 4; })},
      {"but the file has", changed([](F f) { f.tensors[1].offset = 1ull << 40; })},
      {"but the file has", changed([](F f) { f.tensors[1].offset = UINT64_MAX - 31; })},
      {"but the file has", changed([](F f) { f.tensors[1].ne = {1000}; })},
      {"overlap", changed([](F f) { f.tensors[1].offset = 0; })},
  };
  for (auto& [expected, message] : cases) EXPECT_NE(message.find(expected), std::string::npos) << expected << " in " << message;
  std::string whole = small().bytes();
  for (size_t n = 0; n + 16 < whole.size(); ++n) EXPECT_NE(message_of(whole.substr(0, n)), "accepted") << n;
  // Any one byte of the header set to 0xff: an error or a file, never a crash.
  for (size_t n = 0; n < whole.size() - small().data.size(); ++n) {
    std::string bad = whole;
    bad[n] = '\xff';
    message_of(bad);
  }
}

std::string half(float x) { return Bytes().number(f32_to_f16(x)).out; }

TEST(Gguf, BlockFormats) {
  std::vector<float> y(256);
  std::string q4_0 = half(0.5f), q4_1 = half(0.5f) + half(-3), q8_0 = half(0.25f);
  for (int i = 0; i < 16; ++i) q4_0 += static_cast<char>(i | (15 - i) << 4), q4_1 += static_cast<char>(i | (15 - i) << 4);
  for (int i = 0; i < 32; ++i) q8_0 += static_cast<char>(i * 8 - 128);
  auto run = [&](uint32_t type, const std::string& block, int64_t n) { unpack(y.data(), block.data(), *ggml_type(type)->weight, n); };
  run(2, q4_0, 32);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(y[i], 0.5f * (i - 8));
    EXPECT_EQ(y[i + 16], 0.5f * (7 - i));
  }
  run(3, q4_1, 32);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(y[i], 0.5f * i - 3);
    EXPECT_EQ(y[i + 16], 0.5f * (15 - i) - 3);
  }
  run(8, q8_0, 32);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(y[i], 0.25f * (i * 8 - 128));

  // Q4_K: encode known scales, minima and values with the packing rule written the other way round, then read them back.
  int scale[8] = {1, 20, 37, 63, 5, 16, 48, 62}, minimum[8] = {0, 63, 17, 33, 47, 2, 60, 15};
  std::string packed(12, '\0');
  auto put = [&](int byte, int bits) { packed[static_cast<size_t>(byte)] = static_cast<char>(packed[static_cast<size_t>(byte)] | bits); };
  for (int j = 0; j < 4; ++j) {
    put(j, scale[j] | (scale[j + 4] >> 4) << 6);
    put(j + 4, minimum[j] | (minimum[j + 4] >> 4) << 6);
    put(j + 8, (scale[j + 4] & 15) | (minimum[j + 4] & 15) << 4);
  }
  auto value = [](int i) { return (i * 7 + i / 32) % 16; };
  std::string q4_k = half(0.5f) + half(0.25f) + packed;
  for (int pair = 0; pair < 4; ++pair)
    for (int i = 0; i < 32; ++i) q4_k += static_cast<char>(value(pair * 64 + i) | value(pair * 64 + 32 + i) << 4);
  run(12, q4_k, 256);
  for (int i = 0; i < 256; ++i) EXPECT_EQ(y[i], 0.5f * scale[i / 32] * value(i) - 0.25f * minimum[i / 32]) << i;

  // Q6_K likewise: value i of a half of 128 has its nibble in byte i mod 64 (low for the first 64) and two bits in byte i mod 32.
  auto six = [](int i) { return (i * 11 + 3) % 64; };
  std::string low(128, '\0'), high(64, '\0'), scales;
  for (int i = 0; i < 256; ++i) {
    size_t l = static_cast<size_t>(i / 128 * 64 + i % 64), h = static_cast<size_t>(i / 128 * 32 + i % 32);
    low[l] = static_cast<char>(low[l] | (six(i) & 15) << (i % 128 < 64 ? 0 : 4));
    high[h] = static_cast<char>(high[h] | (six(i) >> 4) << (2 * (i % 128 / 32)));
  }
  for (int i = 0; i < 16; ++i) scales += static_cast<char>(i * 16 - 128);
  run(14, low + high + scales + half(0.125f), 256);
  for (int i = 0; i < 256; ++i) EXPECT_EQ(y[i], 0.125f * (i / 16 * 16 - 128) * (six(i) - 32)) << i;
}

TestFile tiny_llama() {
  TestFile file;
  file.key("general.architecture", "llama");
  for (auto [name, value] : {std::pair{"embedding_length", 8u},
                             {"attention.head_count", 2u},
                             {"attention.head_count_kv", 1u},
                             {"block_count", 1u},
                             {"feed_forward_length", 4u},
                             {"context_length", 64u},
                             {"rope.dimension_count", 4u}})
    file.key(std::string("llama.") + name, value);
  file.key("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  std::vector<float> rows(64);
  for (int i = 0; i < 64; ++i) rows[static_cast<size_t>(i)] = static_cast<float>(i / 8);
  file.tensor("token_embd.weight", {8, 8}, 0, f32_bytes(rows));
  file.tensor("blk.0.attn_q.weight", {8, 8}, 0, f32_bytes(rows));
  file.tensor("blk.0.attn_k.weight", {8, 4}, 0, f32_bytes({rows.begin(), rows.begin() + 32}));
  file.tensor("blk.0.attn_v.weight", {8, 4}, 0, f32_bytes({rows.begin(), rows.begin() + 32}));
  return file;
}

TEST(Gguf, NamesRowOrderAndConfig) {
  std::string path = folder() + "/tiny.gguf";
  write_file(path, tiny_llama().bytes());
  ModelFiles files = open_model_files(path);
  EXPECT_FALSE(files.tokenizer_json);
  const TensorInfo* q = files.tensors->find("model.layers.0.self_attn.q_proj.weight");
  ASSERT_NE(q, nullptr);
  EXPECT_EQ(files.tensors->map(*q).data, nullptr);
  std::vector<float> out(64);
  files.tensors->read(*q, Tensor(out.data(), Dtype::F32, {8, 8}));
  std::vector<float> order;
  for (size_t row = 0; row < 8; ++row) order.push_back(out[row * 8]);
  EXPECT_EQ(order, (std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7}));  // the converter wrote rows 0, 2, 1, 3 of each head of 4
  EXPECT_NE(files.tensors->map(*files.tensors->find("model.layers.0.self_attn.v_proj.weight")).data, nullptr);
  EXPECT_EQ(files.config["rms_norm_eps"].get<double>(), 1e-5);
  EXPECT_EQ(files.config["head_dim"], 4);
  EXPECT_EQ(files.config["num_key_value_heads"], 1);
  EXPECT_EQ(files.config["tie_word_embeddings"], true);
  EXPECT_FALSE(gguf_target(gguf_architectures()[0], "blk.01.attn_q.weight"));
  EXPECT_FALSE(gguf_target(gguf_architectures()[0], "blk.0.attn_q.scale"));
  EXPECT_FALSE(gguf_target(gguf_architectures()[0], "blk.0"));
  auto refused = [&](TestFile file) {
    write_file(path, file.bytes());
    try {
      open_model_files(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, ErrorKind::bad_data);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  TestFile other = tiny_llama();
  other.keys[0].second = Bytes().number<uint32_t>(8).text("mamba").out;
  EXPECT_NE(refused(other).find("mamba"), std::string::npos);
  other = tiny_llama();
  other.tensors[1].name = "blk.0.ssm_a";
  EXPECT_NE(refused(other).find("ssm_a"), std::string::npos);
  other = tiny_llama();
  other.keys[2].second = Bytes().number<uint32_t>(4).number(3u).out;
  EXPECT_NE(refused(other).find("3 heads"), std::string::npos);
  other = tiny_llama();
  other.keys[2].second = Bytes().number<uint32_t>(4).number(0u).out;
  EXPECT_NE(refused(other).find("head_count"), std::string::npos);
}

std::string unpacked(const std::string& path) {
  std::string out;
  FILE* pipe = popen(("xz -dc '" + path + "'").c_str(), "r");
  if (!pipe) return out;
  char buffer[65536];
  while (size_t n = fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
  pclose(pipe);
  return out;
}

// The Llama 2 vocabulary as a GGUF keeps it (scores, no merges) gives back the merges and rules of the published tokenizer.json.
TEST(Gguf, SentencePieceTokenizer) {
  std::string path = LORAINE_SOURCE_DIR "/../shared/tokenizers/llama2/tokenizer.json.xz";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no tokenizers";
  Json original = Json::parse(unpacked(path));
  std::vector<std::string> tokens(original["model"]["vocab"].size());
  for (auto& [token, id] : original["model"]["vocab"].items()) tokens[id.get<size_t>()] = token;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (size_t i = 0; i < tokens.size(); ++i) {
    scores.push_back(i < 259 ? 0.0f : -static_cast<float>(i - 259));
    types.push_back(i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
  }
  TestFile file;
  file.key("tokenizer.ggml.model", "llama");
  file.key("tokenizer.ggml.tokens", tokens);
  file.key("tokenizer.ggml.scores", 6, scores);
  file.key("tokenizer.ggml.token_type", 5, types);
  for (auto [name, id] : {std::pair{"bos", 1u}, {"eos", 2u}, {"unknown", 0u}})
    file.key(std::string("tokenizer.ggml.") + name + "_token_id", id);
  std::string gguf = folder() + "/llama2.gguf";
  write_file(gguf, file.bytes());
  Json made = Json::parse(gguf_tokenizer_json(GgufFile(gguf)));
  for (const char* part : {"added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"})
    EXPECT_EQ(made[part], original[part]) << part;
  for (const char* part : {"vocab", "unk_token", "fuse_unk", "byte_fallback"})
    EXPECT_TRUE(made["model"][part] == original["model"][part]) << part;
  EXPECT_EQ(made["model"]["merges"].size(), original["model"]["merges"].size());
  // The same merges; their order is not compared: the published file breaks ties of score in its own way.
  auto sorted = [](Json merges) {
    std::sort(merges.begin(), merges.end());
    return merges;
  };
  EXPECT_TRUE(sorted(made["model"]["merges"]) == sorted(original["model"]["merges"]));
}

TEST(Gguf, RefusesMalformedTokenizers) {
  auto message = [&](std::vector<std::string> tokens, std::vector<std::string> merges, std::vector<int32_t> types, const char* pre) {
    TestFile file;
    file.key("tokenizer.ggml.model", "gpt2");
    file.key("tokenizer.ggml.pre", pre);
    file.key("tokenizer.ggml.tokens", tokens);
    file.key("tokenizer.ggml.merges", merges);
    if (!types.empty()) file.key("tokenizer.ggml.token_type", 5, types);
    std::string path = folder() + "/tokenizer.gguf";
    write_file(path, file.bytes());
    try {
      EXPECT_TRUE(Json::parse(gguf_tokenizer_json(GgufFile(path))).is_object());
    } catch (const Error& error) { return std::string(error.what()); }
    return std::string("accepted");
  };
  EXPECT_EQ(message({"a", "b", "ab", "<s>"}, {"a b"}, {1, 1, 1, 3}, "gpt-2"), "accepted");
  EXPECT_NE(message({"a", "a"}, {}, {}, "gpt-2").find("twice"), std::string::npos);
  EXPECT_NE(message({"a", "\xff"}, {}, {}, "gpt-2").find("UTF-8"), std::string::npos);
  EXPECT_NE(message({"a", "b"}, {"a b"}, {}, "gpt-2").find("not in the vocabulary"), std::string::npos);
  EXPECT_NE(message({"a", "b"}, {"ab"}, {}, "gpt-2").find("two parts"), std::string::npos);
  EXPECT_NE(message({"a", "b"}, {}, {1}, "gpt-2").find("token_type"), std::string::npos);
  EXPECT_NE(message({"a", ""}, {}, {1, 3}, "gpt-2").find("empty"), std::string::npos);
  EXPECT_NE(message({}, {}, {}, "gpt-2").find("0 tokens"), std::string::npos);
  EXPECT_NE(message({"a"}, {}, {}, "klingon").find("klingon"), std::string::npos);
}

// LORAINE_TEST_GGUF: a SmolLM2-135M-Instruct .gguf. Its tokenizer must be the published one, and the conversion must hold the same numbers.
TEST(Gguf, RealModel) {
  const char* path = std::getenv("LORAINE_TEST_GGUF");
  if (!path) GTEST_SKIP() << "LORAINE_TEST_GGUF is not set";
  std::string out = folder() + "/converted";
  convert_gguf(path, out);
  ModelFiles gguf = open_model_files(path), files = open_model_files(out);
  EXPECT_EQ(files.config, gguf.config);
  EXPECT_EQ(files.chat_template, gguf.chat_template);
  EXPECT_EQ(files.tokenizer_json, gguf.tokenizer_json);
  ASSERT_EQ(files.tensors->tensors().size(), gguf.tensors->tensors().size());
  EXPECT_EQ(files.tensors->tensors().size(), 272u);
  for (const TensorInfo& info : gguf.tensors->tensors()) {
    const TensorInfo* converted = files.tensors->find(info.name);
    ASSERT_NE(converted, nullptr);
    ASSERT_EQ(converted->shape, info.shape);
    Tensor stored = files.tensors->map(*converted);
    std::vector<float> values(static_cast<size_t>(stored.numel()));
    gguf.tensors->read(info, Tensor(values.data(), Dtype::F32, std::span<const int64_t>(info.shape)));
    EXPECT_EQ(std::memcmp(values.data(), stored.data, stored.bytes()), 0) << info.name;
  }
  std::string published = LORAINE_SOURCE_DIR "/../shared/tokenizers/smollm2/";
  if (!std::filesystem::exists(published)) GTEST_SKIP() << "no published tokenizer to compare with";
  Json made = Json::parse(*gguf.tokenizer_json), original = Json::parse(unpacked(published + "tokenizer.json.xz"));
  made["model"].erase("ignore_merges");
  original["model"].erase("ignore_merges");
  EXPECT_TRUE(made == original);
  Json config = parse_json_file(published + "tokenizer_config.json");
  EXPECT_EQ(*gguf.chat_template, config["chat_template"]);
  for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token", "model_max_length", "added_tokens_decoder"})
    EXPECT_EQ((*gguf.tokenizer_config)[key], config[key]) << key;
}

}  // namespace
}  // namespace loraine::gguf_model_test
