// The writer against the reader, the table of architectures both ways, blocks against ggml's (tests/golden/make_gguf_quantise_cases.py).
#include "loraine/io/gguf/gguf_write.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/gguf/gguf_config.h"
#include "loraine/io/gguf/gguf_mixture.h"
#include "loraine/io/gguf/gguf_output_keys.h"
#include "loraine/io/gguf/gguf_output_tokenizer.h"
#include "loraine/io/gguf/gguf_quantise.h"
#include "loraine/io/gguf/importance_matrix.h"
#include "loraine/io/tensors/read_elements.h"

namespace loraine::gguf_write_test {
namespace {

std::string path_of(const std::string& name) {
  static const std::string folder = [] {
    char made[] = "/tmp/loraine_gguf_write_XXXXXX";
    return std::string(mkdtemp(made));
  }();
  return folder + "/" + name;
}

void write_values(const GgufEntry& entry, const WriteGgufBytes& write, float first) {
  int64_t count = 1;
  for (const int64_t size : entry.shape) count *= size;
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(first + static_cast<float>(i));
  write(values.data(), values.size() * sizeof(float));
}

TEST(GgufWrite, IsWhatTheReaderReads) {
  GgufMetadata metadata;
  metadata.put_text("general.architecture", "llama");
  metadata.put_unsigned("a", 7);
  metadata.put_unsigned("a", 8);  // in the first one's place
  metadata.put_number("b", 0.25);
  metadata.put_boolean("c", true);
  metadata.put_texts("d", {"x", "", "▁y"});
  metadata.put_integers("e", {-1, 3});
  metadata.put_numbers("f", {1.5f});
  metadata.put_booleans("g", {true, false});
  const std::vector<GgufEntry> entries = {{"token_embd.weight", 0, {3, 5}}, {"output_norm.weight", 0, {5}}};
  stream_gguf(path_of("a.gguf"), metadata, entries,
              [&](size_t index, const WriteGgufBytes& write) { write_values(entries[index], write, static_cast<float>(100 * index)); });
  const GgufFile file(path_of("a.gguf"));
  EXPECT_EQ(file.version, 3u);
  EXPECT_EQ(file.unsigned_integer("a"), 8u);
  EXPECT_EQ(file.number("b"), 0.25);
  EXPECT_EQ(file.boolean("c"), true);
  EXPECT_EQ(file.find("d")->texts, (std::vector<std::string_view>{"x", "", "▁y"}));
  EXPECT_EQ(file.integers("e"), (std::vector<int64_t>{-1, 3}));
  EXPECT_EQ(file.floats("f"), (std::vector<float>{1.5f}));
  EXPECT_EQ(file.integers("g"), (std::vector<int64_t>{1, 0}));
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].shape, (std::vector<int64_t>{3, 5}));
  EXPECT_EQ(file.tensors[1].offset % 32, 0u);
  float value = 0;
  std::memcpy(&value, file.file.data() + file.tensors[1].offset + 4, sizeof value);
  EXPECT_EQ(value, 101);
}

TEST(GgufWrite, RefusesWhatAFileCannotHold) {
  GgufMetadata metadata;
  EXPECT_THROW(metadata.put_unsigned("a", 1ull << 32), Error);
  const auto nothing = [](size_t, const WriteGgufBytes&) {};
  const auto refused = [&](const std::vector<GgufEntry>& entries) {
    EXPECT_THROW(stream_gguf(path_of("b.gguf"), metadata, entries, nothing), Error);
    EXPECT_FALSE(std::filesystem::exists(path_of("b.gguf")));
  };
  refused({{std::string(64, 'n'), 0, {1}}});
  refused({{"a", 0, {1}}, {"a", 0, {1}}});
  refused({{"a", 8, {2, 33}}});                        // rows of no whole block
  refused({{"a", 0, {1ll << 40, 1ll << 40}}});         // more than 2^64 bytes
  refused({{"a", 0, {1ll << 61, 1}}, {"b", 0, {1}}});  // fits by itself
  refused({{"a", 0, {4}}});                            // nothing was written for it
}

struct QuantiseCase {
  std::vector<float> values;
  std::vector<unsigned char> blocks;
  int64_t rows = 0;
};

// The bytes of a tensor of a recorded file; its header is JSON.
std::string recorded_bytes(const std::string& file, const char* name) {
  const std::string bytes = read_file(LORAINE_SOURCE_DIR "/tests/golden/gguf/" + file);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const Json header = Json::parse(bytes.substr(8, length));
  const size_t begin = header[name]["data_offsets"][0].get<size_t>(), end = header[name]["data_offsets"][1].get<size_t>();
  return bytes.substr(8 + length + begin, end - begin);
}

// [rows, 256] and the blocks of a type.
QuantiseCase recorded(const char* type, const std::string& file = "quantised.safetensors") {
  QuantiseCase one;
  const std::string values = recorded_bytes("quantised.safetensors", "values"), blocks = recorded_bytes(file, type);
  one.values.resize(values.size() / 4);
  std::memcpy(one.values.data(), values.data(), values.size());
  one.blocks.assign(blocks.begin(), blocks.end());
  one.rows = static_cast<int64_t>(one.values.size()) / 256;
  return one;
}

TEST(GgufQuantise, MakesGgmlsBytes) {
  for (const Dtype type : {Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1, Dtype::Q5_0, Dtype::Q5_1, Dtype::Q4_K, Dtype::Q5_K, Dtype::Q6_K}) {
    const QuantiseCase one = recorded(name_of(type));
    const int64_t row_bytes = bytes_of(type, 256);
    ASSERT_EQ(static_cast<int64_t>(one.blocks.size()), one.rows * row_bytes);
    std::vector<unsigned char> out(one.blocks.size());
    for (int64_t row = 0; row < one.rows; ++row) {
      quantise(out.data() + row * row_bytes, type, one.values.data() + row * 256, 256);
      EXPECT_EQ(std::memcmp(out.data() + row * row_bytes, one.blocks.data() + row * row_bytes, static_cast<size_t>(row_bytes)), 0)
          << name_of(type) << " row " << row;
    }
  }
  EXPECT_FALSE(can_quantise(Dtype::Q2_K));
}

TEST(GgufQuantise, MakesGgmlsBytesWithAnImportanceMatrix) {  // tests/golden/make_gguf_weighted_cases.py
  const std::string bytes = recorded_bytes("weighted.safetensors", "importance");
  std::vector<float> importance(bytes.size() / sizeof(float));
  std::memcpy(importance.data(), bytes.data(), bytes.size());
  for (const Dtype type : {Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1, Dtype::Q5_0, Dtype::Q5_1, Dtype::Q4_K, Dtype::Q5_K, Dtype::Q6_K}) {
    const QuantiseCase one = recorded(name_of(type), "weighted.safetensors");
    const int64_t row_bytes = bytes_of(type, 256);
    ASSERT_EQ(static_cast<int64_t>(one.blocks.size()), one.rows * row_bytes);
    std::vector<unsigned char> out(one.blocks.size());
    for (int64_t row = 0; row < one.rows; ++row) {
      quantise(out.data() + row * row_bytes, type, one.values.data() + row * 256, 256, importance.data());
      EXPECT_EQ(std::memcmp(out.data() + row * row_bytes, one.blocks.data() + row * row_bytes, static_cast<size_t>(row_bytes)), 0)
          << name_of(type) << " row " << row;
    }
  }
}

TEST(ImportanceMatrix, IsReadAsItWasWritten) {
  ImportanceMatrix matrix;
  matrix.datasets = {"text.txt"};
  matrix.chunks = 3;
  matrix.chunk_size = 512;
  matrix.entries["blk.0.attn_q.weight"] = {{2, 4, 6, 8}, {2}};
  matrix.entries["blk.0.ffn_up_exps.weight"] = {{2, 4, 6, 8}, {1, 0}};
  write_importance_matrix(matrix, path_of("imatrix.gguf"));
  const ImportanceMatrix read = read_importance_matrix(path_of("imatrix.gguf"));
  EXPECT_EQ(read.datasets, matrix.datasets);
  EXPECT_EQ(read.chunks, 3);
  EXPECT_EQ(read.chunk_size, 512);
  EXPECT_EQ(read.weights("blk.0.attn_q.weight", 0, 1, 4), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(read.weights("blk.0.ffn_up_exps.weight", 0, 2, 2), (std::vector<float>{2, 4}));
  EXPECT_EQ(read.weights("blk.0.ffn_up_exps.weight", 1, 2, 2), (std::vector<float>{1, 1}));  // nothing was counted
  EXPECT_TRUE(read.weights("blk.1.attn_q.weight", 0, 1, 4).empty());
  EXPECT_THROW(read.weights("blk.0.attn_q.weight", 0, 1, 8), Error);
  matrix.entries["blk.0.attn_q.weight"].sums[1] = -1;
  write_importance_matrix(matrix, path_of("imatrix.gguf"));
  EXPECT_THROW(read_importance_matrix(path_of("imatrix.gguf")), Error);
}

TEST(GgufParts, AreReadAsOneFile) {
  GgufMetadata metadata;
  metadata.put_text("general.architecture", "llama");
  const std::vector<GgufEntry> entries = {{"a", 0, {40}}, {"b", 0, {2, 40}}, {"c", 0, {40}}};
  const auto produce = [&](size_t index, const WriteGgufBytes& write) {
    write_values(entries[index], write, static_cast<float>(100 * index));
  };
  EXPECT_EQ(stream_gguf_parts(path_of("whole.gguf"), metadata, entries, 1 << 20, produce), std::vector<std::string>{path_of("whole.gguf")});
  const std::vector<std::string> paths = stream_gguf_parts(path_of("cut.gguf"), metadata, entries, 500, produce);
  ASSERT_EQ(paths.size(), 2u);
  EXPECT_EQ(paths[0], path_of("cut-00001-of-00002.gguf"));
  const GgufFile file(paths[0]);
  EXPECT_EQ(file.text("general.architecture"), "llama");
  EXPECT_EQ(file.unsigned_integer("split.count"), 2u);
  ASSERT_EQ(file.tensors.size(), 3u);
  for (size_t i = 0; i < entries.size(); ++i) {
    float value = 0;
    std::memcpy(&value, file.file.data() + file.tensors[i].offset + 4, sizeof value);
    EXPECT_EQ(file.tensors[i].name, entries[i].name);
    EXPECT_EQ(value, static_cast<float>(100 * i + 1));
  }
  EXPECT_THROW(GgufFile{paths[1]}, Error);  // the first has the metadata
  std::filesystem::copy_file(paths[0], path_of("alone.gguf"));
  EXPECT_THROW(GgufFile{path_of("alone.gguf")}, Error);
  std::filesystem::copy_file(paths[0], paths[1], std::filesystem::copy_options::overwrite_existing);
  EXPECT_THROW(GgufFile{paths[0]}, Error);  // the second says that it is the first
  std::filesystem::remove(paths[1]);
  EXPECT_THROW(GgufFile{paths[0]}, Error);
}

TEST(GgufMixture, FollowsLlamaQuantize) {
  GgufMixture mixture(gguf_recipe("q4_k_m"), {"llama", 16, 32, 8, 0, 16, true});
  const std::vector<int64_t> wide = {256, 512}, narrow = {256, 576}, odd = {256, 40};
  EXPECT_EQ(mixture.type_of("token_embd.weight", wide), Dtype::Q6_K);  // it is the head too
  EXPECT_EQ(mixture.type_of("output_norm.weight", {512}), Dtype::F32);
  std::string values;
  for (int layer = 0; layer < 16; ++layer) {
    EXPECT_EQ(mixture.type_of("blk." + std::to_string(layer) + ".attn_q.weight", wide), Dtype::Q4_K);
    const Dtype of_v = mixture.type_of("blk." + std::to_string(layer) + ".attn_v.weight", wide);
    EXPECT_EQ(mixture.type_of("blk." + std::to_string(layer) + ".ffn_down.weight", wide), of_v);
    values += of_v == Dtype::Q6_K ? '6' : '4';
  }
  EXPECT_EQ(values, "6644644644644666");
  EXPECT_EQ(mixture.type_of("blk.0.attn_q.weight", narrow), Dtype::Q5_0);
  EXPECT_EQ(mixture.type_of("blk.0.attn_q.weight", odd), Dtype::F16);
  GgufMixture apart(gguf_recipe("q8_0"), {"llama", 2, 4, 4, 0, 2, false});
  EXPECT_EQ(apart.type_of("token_embd.weight", wide), Dtype::Q8_0);
  EXPECT_EQ(apart.type_of("output.weight", odd), Dtype::F16);
  GgufMixture experts(gguf_recipe("q4_k_s"), {"llama", 16, 32, 8, 8, 16, false});
  EXPECT_EQ(experts.type_of("blk.0.attn_k.weight", wide), Dtype::Q8_0);
  EXPECT_EQ(experts.type_of("blk.0.attn_output.weight", wide), Dtype::Q5_K);
  EXPECT_EQ(experts.type_of("blk.1.ffn_down_exps.weight", {8, 256, 512}), Dtype::Q5_K);
  EXPECT_EQ(experts.type_of("blk.0.ffn_gate_inp.weight", wide), Dtype::F32);
  EXPECT_THROW(gguf_recipe("q9"), Error);
}

TEST(GgufOutputs, AreTheTableBackwards) {
  const Json config = {{"model_type", "llama"},         {"num_hidden_layers", 1},   {"hidden_size", 8},
                       {"intermediate_size", 12},       {"num_attention_heads", 2}, {"num_key_value_heads", 1},
                       {"max_position_embeddings", 64}, {"rms_norm_eps", 1e-5},     {"vocab_size", 6}};
  GgufModelKeys keys = gguf_model_keys(config);
  const std::string layer = "model.layers.0.";
  const std::vector<NamedShape> shapes = {{"model.embed_tokens.weight", {6, 8}},       {"model.norm.weight", {8}},
                                          {layer + "input_layernorm.weight", {8}},     {layer + "post_attention_layernorm.weight", {8}},
                                          {layer + "self_attn.q_proj.weight", {8, 8}}, {layer + "self_attn.k_proj.weight", {4, 8}},
                                          {layer + "self_attn.v_proj.weight", {4, 8}}, {layer + "self_attn.o_proj.weight", {8, 8}},
                                          {layer + "mlp.gate_proj.weight", {12, 8}},   {layer + "mlp.up_proj.weight", {12, 8}},
                                          {layer + "mlp.down_proj.weight", {8, 12}}};
  const std::vector<GgufOutput> outputs = gguf_outputs(*keys.architecture, shapes, keys.heads, keys.layers);
  ASSERT_EQ(outputs.size(), shapes.size());
  EXPECT_EQ(outputs[0].name, "token_embd.weight");
  std::vector<GgufEntry> entries;
  for (const GgufOutput& output : outputs) {
    entries.push_back({output.name, 0, output.shape});
    if (output.name == "blk.0.attn_k.weight") { EXPECT_EQ(output.order, (std::vector<int64_t>{0, 2, 1, 3})); }
  }
  keys.metadata.put_text("tokenizer.ggml.model", "no_vocab");
  stream_gguf(path_of("c.gguf"), keys.metadata, entries, [&](size_t index, const WriteGgufBytes& write) {
    const GgufOutput& output = outputs[index];
    const int64_t cols = output.shape.back(), rows = output.shape.size() < 2 ? 1 : output.shape[0];
    std::vector<float> values(static_cast<size_t>(rows * cols));
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t c = 0; c < cols; ++c) {
        const int64_t to = output.order.empty() ? row : output.order[static_cast<size_t>(row)];
        values[static_cast<size_t>(to * cols + c)] = static_cast<float>(row * cols + c);
      }
    write(values.data(), values.size() * sizeof(float));
  });
  const auto file = std::make_shared<const GgufFile>(path_of("c.gguf"));
  const auto source = open_gguf(file);
  for (const NamedShape& shape : shapes) {
    const TensorInfo* info = source->find(shape.name);
    ASSERT_TRUE(info) << shape.name;
    ASSERT_EQ(info->shape, shape.shape);
    std::vector<float> values(static_cast<size_t>(element_count(*info)));
    source->read(*info, Tensor(values.data(), Dtype::F32, std::span<const int64_t>(info->shape)));
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<float>(i)) << shape.name;
  }
  const Json read = gguf_config(*file, *source);
  for (const auto& [key, value] : config.items()) EXPECT_EQ(read[key], value) << key;
  EXPECT_EQ(read["tie_word_embeddings"], true);
  std::vector<NamedShape> more = shapes;
  more.push_back({layer + "self_attn.rotor.weight", {8}});
  EXPECT_THROW(gguf_outputs(*keys.architecture, more, keys.heads, keys.layers), Error);
  EXPECT_THROW(gguf_model_keys({{"model_type", "bert"}}), Error);
}

TEST(GgufOutputTokenizer, ComesBack) {
  GgufTokenizerSource source;
  source.tokenizer_json =
      R"({"added_tokens":[{"id":3,"content":"<|end|>","special":true},{"id":4,"content":"<tool>","special":false}],
          "normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
          "post_processor":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"},
          "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";
  source.tokenizer_config = {{"eos_token", "<|end|>"}};
  source.stop = {3, 4};
  source.rows = 6;
  source.chat_template = "{{ messages }}";
  GgufMetadata metadata;
  metadata.put_text("general.architecture", "llama");
  put_gguf_tokenizer(metadata, source);
  stream_gguf(path_of("d.gguf"), metadata, {}, [](size_t, const WriteGgufBytes&) {});
  const GgufFile file(path_of("d.gguf"));
  EXPECT_EQ(file.text("tokenizer.ggml.pre"), "gpt-2");
  EXPECT_EQ(file.integers("tokenizer.ggml.token_type"), (std::vector<int64_t>{1, 1, 1, 3, 4, 5}));
  EXPECT_EQ(file.find("tokenizer.ggml.tokens")->texts[5], "[PAD5]");
  EXPECT_EQ(file.unsigned_integer("tokenizer.ggml.eos_token_id"), 3u);
  EXPECT_EQ(file.unsigned_integer("tokenizer.ggml.eot_token_id"), 4u);
  EXPECT_EQ(file.boolean("tokenizer.ggml.add_bos_token"), false);
  EXPECT_EQ(file.text("tokenizer.chat_template"), "{{ messages }}");
  const Json read = Json::parse(gguf_tokenizer_json(file));
  EXPECT_EQ(read["model"]["merges"], Json::array({"a b"}));
  EXPECT_EQ(read["added_tokens"].size(), 2u);
  source.tokenizer_json.replace(source.tokenizer_json.find("\"use_regex\":true"), 16, "\"use_regex\":false");
  EXPECT_THROW(put_gguf_tokenizer(metadata, source), Error);
  source.tokenizer_json = R"({"model":{"type":"Unigram"}})";
  EXPECT_THROW(put_gguf_tokenizer(metadata, source), Error);
}

}  // namespace
}  // namespace loraine::gguf_write_test
