// The tensors of a quantised weight and their names (io/bitsandbytes_source.cpp reads them).
#include "loraine/export/quantised.h"

#include <fmt/format.h>

#include <map>

#include "loraine/quant/bitsandbytes.h"

namespace loraine {
namespace {

const char* torch_name(Dtype dtype) { return dtype == Dtype::BF16 ? "bfloat16" : dtype == Dtype::F16 ? "float16" : "float32"; }
const char* type_name(Dtype dtype) { return dtype == Dtype::NF4 ? "nf4" : "fp4"; }

const WeightPart* first_quantised(const Model& model) {
  for (const Weight* site : model.sites())
    for (const WeightPart& part : site->parts)
      if (part.quant_state) return &part;
  return nullptr;
}

WeightToWrite tensor(const std::string& name, Dtype dtype, int64_t elements, const void* data, bool column = false) {
  SafetensorsEntry entry{name, dtype, column ? std::vector<int64_t>{elements, 1} : std::vector<int64_t>{elements}};
  const size_t bytes = static_cast<size_t>(elements) * size_of(dtype);
  return {entry, [data, bytes](const WriteBytes& write) { write(data, bytes); }};
}

std::string state_text(const Tensor& weight) {
  const QuantState& q = *weight.quant;
  std::string text = fmt::format(R"({{"quant_type": "{}", "blocksize": {}, "dtype": "{}", "shape": [{}, {}])", type_name(weight.dtype),
                                 q.blocksize, torch_name(q.values), weight.rows(), weight.cols());
  if (!q.absmax)
    text += fmt::format(R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {})", q.nested_blocksize,
                        Json(static_cast<double>(q.offset)).dump());
  return text + "}";
}

std::vector<WeightToWrite> tensors_of(const WeightPart& part) {
  const Tensor& w = part.weight;
  const QuantState& q = *w.quant;
  const std::string name = part.stored + ".weight";
  if (w.dtype == Dtype::INT8) {
    static const uint8_t kRowMajor = 0;
    WeightToWrite codes = tensor(name, Dtype::I8, w.numel(), w.data);
    codes.entry.shape = {w.rows(), w.cols()};
    WeightToWrite format = tensor(part.stored + ".weight_format", Dtype::U8, 1, &kRowMajor);
    format.entry.shape = {};
    return {codes, tensor(part.stored + ".SCB", Dtype::F32, w.rows(), q.row_absmax), format};
  }
  const int64_t blocks = block_count(w);
  std::vector<WeightToWrite> all = {tensor(name, Dtype::U8, w.numel() / 2, w.data, true),
                                    tensor(name + ".quant_map", Dtype::F32, 16, q.map)};
  if (q.absmax) {
    all.push_back(tensor(name + ".absmax", Dtype::F32, blocks, q.absmax));
  } else {
    all.push_back(tensor(name + ".absmax", Dtype::U8, blocks, q.absmax_codes));
    all.push_back(tensor(name + ".nested_absmax", Dtype::F32, (blocks + q.nested_blocksize - 1) / q.nested_blocksize, q.nested_absmax));
    all.push_back(tensor(name + ".nested_quant_map", Dtype::F32, 256, q.nested_map));
  }
  const std::string text = state_text(w);
  WeightToWrite state{{name + ".quant_state.bitsandbytes__" + type_name(w.dtype), Dtype::U8, {static_cast<int64_t>(text.size())}},
                      [text](const WriteBytes& write) { write(text.data(), text.size()); }};
  all.push_back(std::move(state));
  return all;
}

}  // namespace

void write_quantised(const Model& model, std::vector<WeightToWrite>& weights) {
  std::map<std::string, const WeightPart*> parts;
  for (const Weight* site : model.sites())
    for (const WeightPart& part : site->parts)
      if (part.quant_state) parts[part.stored + ".weight"] = &part;
  if (parts.empty()) return;
  std::vector<WeightToWrite> all;
  for (WeightToWrite& weight : weights) {
    const auto part = parts.find(weight.entry.name);
    if (part == parts.end()) {
      all.push_back(std::move(weight));
      continue;
    }
    for (WeightToWrite& tensor : tensors_of(*part->second)) all.push_back(std::move(tensor));
  }
  weights = std::move(all);
}

void describe_quantisation(Json& config, const Model& model) {
  for (const char* key : {"quantization_config", "compression_config"}) {  // what was stored quantised is written in full
    config.erase(key);
    if (config.contains("text_config") && config["text_config"].is_object()) config["text_config"].erase(key);
  }
  const WeightPart* part = first_quantised(model);
  if (!part) return;
  const Tensor& w = part->weight;
  const bool four = w.dtype != Dtype::INT8;
  config["quantization_config"] = {{"_load_in_4bit", four},
                                   {"_load_in_8bit", !four},
                                   {"bnb_4bit_compute_dtype", torch_name(w.quant->values)},
                                   {"bnb_4bit_quant_storage", "uint8"},
                                   {"bnb_4bit_quant_type", four ? type_name(w.dtype) : "fp4"},
                                   {"bnb_4bit_use_double_quant", four && !w.quant->absmax},
                                   {"llm_int8_enable_fp32_cpu_offload", false},
                                   {"llm_int8_has_fp16_weight", false},
                                   {"llm_int8_skip_modules", nullptr},
                                   {"llm_int8_threshold", 6.0},
                                   {"load_in_4bit", four},
                                   {"load_in_8bit", !four},
                                   {"quant_method", "bitsandbytes"}};
}

}  // namespace loraine
