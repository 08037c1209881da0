// From the plan of a merge to the tensors of a GGUF: names and orders by io/gguf, types by the mixture.
#include "loraine/export/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/gguf/gguf_output_tokenizer.h"
#include "loraine/io/gguf/gguf_quantise.h"
#include "loraine/io/vocabulary/sentencepiece_file.h"
#include "loraine/kernels/base/parallel.h"

namespace loraine {
namespace {

uint32_t ggml_number(Dtype dtype) {
  for (uint32_t number = 0; number < 64; ++number)
    if (const GgmlType* type = ggml_type(number); type && type->weight == dtype) return number;
  throw Error(ErrorKind::internal, std::string("ggml has no number for ") + name_of(dtype));
}

void put_general(GgufMetadata& metadata, const ModelFiles& files, const GgufText& text, const GgufRecipe& recipe) {
  metadata.put_text("general.type", "model");
  metadata.put_text("general.name", text.name);
  const Json sampling = files.generation_config.value_or(Json::object());
  for (const auto& [from, key] : {std::pair{"temperature", "temp"}, {"top_p", "top_p"}, {"min_p", "min_p"}})
    if (sampling.contains(from) && sampling[from].is_number())
      metadata.put_number(std::string("general.sampling.") + key, sampling[from].get<double>());
  metadata.put_unsigned("general.file_type", recipe.file_type);
  metadata.put_unsigned("general.quantization_version", 2);
}

void put_tokenizer(GgufMetadata& metadata, const ModelFiles& files, const GgufText& text, int64_t rows) {
  GgufTokenizerSource source;
  source.tokenizer_json = files.tokenizer_json.value_or("");
  if (files.tokenizer_config) source.tokenizer_config = *files.tokenizer_config;
  source.config = files.config;
  source.stop = text.stop;
  source.rows = rows;
  source.chat_template = files.chat_template;
  for (const NamedText& each : files.chat_templates) source.chat_templates.emplace_back(each.name, each.text);
  std::unordered_map<std::string, float> scores;
  for (const NamedText& file : files.tokenizer_files) {
    if (file.name != "tokenizer.model") continue;
    for (const Piece& piece : read_sentencepiece(file.text, files.path + "/" + file.name).pieces) scores.emplace(piece.text, piece.score);
    source.score = [&scores](const std::string& piece) {
      const auto at = scores.find(piece);
      return at == scores.end() ? std::nullopt : std::optional<float>(at->second);
    };
  }
  put_gguf_tokenizer(metadata, source);
}

// Row `row` of a source [rows, cols] as f32.
void row_as_f32(float* out, const Tensor& source, int64_t row, int64_t cols, bool plus_one) {
  convert(out, Dtype::F32, static_cast<const char*>(source.data) + loraine::bytes_of(source.dtype, row * cols), source.dtype, cols);
  if (plus_one)
    for (int64_t i = 0; i < cols; ++i) out[i] += 1;
}

// The rows of one matrix of a source, or of all matrices of a stack, as the file has them. first_matrix: of the stack, where each has a
// source.
void write_rows(const GgufOutput& output, const GgufEntry& entry, const Tensor& source, Dtype type, const ImportanceMatrix* importance,
                int64_t first_matrix, const WriteGgufBytes& write) {
  const int64_t cols = entry.shape.back(), rank = static_cast<int64_t>(entry.shape.size());
  const bool stacked = output.sources.size() == 1 && rank == 3;
  const int64_t rows = rank < 2 ? 1 : entry.shape[static_cast<size_t>(rank - 2)], matrices = stacked ? entry.shape[0] : 1;
  const int64_t source_rows = source.numel() / cols / matrices;
  if (!output.order.empty() && rank < 2) {  // a list whose entries have another order
    std::vector<float> values(static_cast<size_t>(cols)), ordered(values.size());
    row_as_f32(values.data(), source, 0, cols, output.plus_one);
    for (size_t i = 0; i < values.size(); ++i) ordered[static_cast<size_t>(output.order[i])] = values[i];
    Buffer memory(static_cast<size_t>(loraine::bytes_of(type, cols)));
    store_gguf_row(memory.data(), type, ordered.data(), cols);
    return write(memory.data(), memory.bytes());
  }
  const auto row_bytes = static_cast<size_t>(loraine::bytes_of(type, cols));
  const Buffer memory(row_bytes * static_cast<size_t>(rows * matrices));
  std::vector<std::vector<float>> weights(static_cast<size_t>(matrices));
  if (importance && is_packed(type))
    for (int64_t m = 0; m < matrices; ++m)
      weights[static_cast<size_t>(m)] = importance->weights(entry.name, first_matrix + m, rank == 3 ? entry.shape[0] : 1, cols);
  parallel_for(
      rows * matrices,
      [&](int64_t index) {
        const int64_t matrix = index / rows, row = index % rows;
        std::vector<float> values(static_cast<size_t>(cols));
        row_as_f32(values.data(), source, matrix * source_rows + output.first_row + row, cols, output.plus_one);
        const int64_t at = output.order.empty() ? row : output.order[static_cast<size_t>(row)];
        const std::vector<float>& own = weights[static_cast<size_t>(matrix)];
        store_gguf_row(static_cast<char*>(memory.data()) + row_bytes * static_cast<size_t>(matrix * rows + at), type, values.data(), cols,
                       own.empty() ? nullptr : own.data());
      },
      (1 << 14) / cols + 1);
  write(memory.data(), memory.bytes());
}

}  // namespace

void store_gguf_row(void* out, Dtype type, const float* values, int64_t cols, const float* importance) {
  if (is_packed(type)) quantise(out, type, values, cols, importance);
  else convert(out, type, values, Dtype::F32, cols);
}

MergedBytes merged_bytes(const WeightToWrite& weight) {
  const Tensor shape(nullptr, weight.entry.dtype, weight.entry.shape);
  MergedBytes merged{Buffer(shape.bytes()), {}};
  merged.tensor = Tensor(merged.memory.data(), weight.entry.dtype, weight.entry.shape);
  size_t at = 0;
  weight.write([&](const void* bytes, size_t count) {
    if (at + count > merged.memory.bytes()) throw Error(ErrorKind::internal, weight.entry.name + ": more bytes than it has");
    std::memcpy(static_cast<char*>(merged.memory.data()) + at, bytes, count);
    at += count;
  });
  check_mapped_files();
  return merged;
}

GgufPlan plan_gguf(const Merge& merge, const ModelFiles& files, const GgufText& text, const GgufRecipe& recipe, bool with_importance) {
  if (merge.model.config.nested)
    throw Error(ErrorKind::unsupported, "the model is the text part of one with more parts, of which no GGUF is written",
                "export with export_format: huggingface, and convert that folder with llama.cpp's convert_hf_to_gguf.py");
  GgufPlan plan{&merge, &recipe, gguf_model_keys(files.config), {}, {}, {}};
  std::vector<NamedShape> shapes;
  for (const WeightToWrite& weight : merge.weights) {
    if (is_packed(weight.entry.dtype) ||
        (weight.entry.dtype != Dtype::F32 && weight.entry.dtype != Dtype::F16 && weight.entry.dtype != Dtype::BF16))
      throw Error(ErrorKind::unsupported,
                  fmt::format("{} is stored as {}, of which no GGUF is written", weight.entry.name, name_of(weight.entry.dtype)),
                  "give the model in its 16 or 32 bit form");
    shapes.push_back({weight.entry.name, weight.entry.shape});
    plan.weights[weight.entry.name] = &weight;
  }
  plan.outputs = gguf_outputs(*plan.keys.architecture, shapes, plan.keys.heads, plan.keys.layers);
  GgufShape shape{std::string(plan.keys.architecture->name),
                  plan.keys.layers,
                  plan.keys.heads.heads,
                  plan.keys.heads.kv_heads,
                  plan.keys.experts,
                  0,
                  true,
                  with_importance};
  int64_t rows = 0;
  for (const GgufOutput& output : plan.outputs) {
    for (const char* each : {"attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"}) shape.value_matrices += output.name.ends_with(each);
    if (output.name == "output.weight") shape.tied = false;
    if (output.name == "token_embd.weight") rows = output.shape[0];
  }
  if (!shape.tied && (shape.architecture == "gemma" || shape.architecture == "gemma2"))
    throw Error(ErrorKind::unsupported,
                "the merged model has a head of its own, and llama.cpp takes the embedding for it in " + shape.architecture,
                "train without lm_head and embed_tokens, or export with export_format: huggingface");
  GgufMixture mixture(recipe, shape);
  for (const auto& made : plan.keys.made) plan.entries.push_back({made.name, 0, {static_cast<int64_t>(made.values.size())}});
  for (const GgufOutput& output : plan.outputs)
    plan.entries.push_back({output.name, ggml_number(mixture.type_of(output.name, output.shape)), output.shape});
  put_general(plan.keys.metadata, files, text, recipe);
  put_tokenizer(plan.keys.metadata, files, text, rows);
  return plan;
}

std::vector<std::string> write_gguf(const GgufPlan& plan, const std::string& path, uint64_t part_bytes,
                                    const std::function<bool()>& keep_going) {
  const size_t made = plan.keys.made.size();
  return stream_gguf_parts(path, plan.keys.metadata, plan.entries, part_bytes, [&](size_t index, const WriteGgufBytes& write) {
    if (keep_going && !keep_going()) throw Stopped();
    if (index < made) {
      const std::vector<float>& values = plan.keys.made[index].values;
      return write(values.data(), values.size() * sizeof(float));
    }
    const GgufOutput& output = plan.outputs[index - made];
    const Dtype type = *ggml_type(plan.entries[index].type)->weight;
    int64_t matrix = 0;
    for (const std::string& source : output.sources)
      write_rows(output, plan.entries[index], merged_bytes(*plan.weights.at(source)).tensor, type, plan.importance, matrix++, write);
  });
}

}  // namespace loraine
