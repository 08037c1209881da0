// Keys of the later Gemmas that more than one of them has.
#include "loraine/model/families/gemma_parts.h"

namespace loraine {

std::shared_ptr<const Rope> sliding_rope(const Decoder& d) {
  if (rope_object(d.hf).get("sliding_attention")) return d.rope_of("sliding_attention");
  const nlohmann::json only_theta = {{"rope_theta", d.hf.number_or("rope_local_base_freq", 10000)}};
  return read_rope(ConfigReader(only_theta, d.hf.file()), d.rope_keys);
}

KvSharing kv_sharing(const ConfigReader& hf, const std::vector<bool>& sliding, int64_t otherwise) {
  const auto layers = static_cast<int64_t>(sliding.size());
  const char* key = "num_kv_shared_layers";
  const int64_t readers = hf.get(key) ? static_cast<int64_t>(hf.number_or(key, 0)) : otherwise;
  if (readers < 0 || readers >= layers) hf.wrong(key, "a number below num_hidden_layers");
  KvSharing out{layers - readers, std::vector<int64_t>(sliding.size(), -1), std::vector<SharedKv>(sliding.size(), SharedKv::none)};
  for (const bool type : {false, true}) {
    int64_t giver = -1, last = -1;
    for (int64_t layer = 0; layer < layers; ++layer) {
      const auto i = static_cast<size_t>(layer);
      if (sliding[i] != type) continue;
      if (layer < out.first) {
        giver = layer;
        continue;
      }
      if (giver < 0) hf.wrong(key, "one that leaves a layer of each type its keys and values");
      out.giver[i] = giver;
      out.kind[i] = SharedKv::reads;
      last = layer;
    }
    if (last < 0) continue;
    out.kind[static_cast<size_t>(last)] = SharedKv::reads_last;
    out.kind[static_cast<size_t>(giver)] = SharedKv::gives;
    out.giver[static_cast<size_t>(giver)] = giver;
  }
  return out;
}

PerLayerInputsConfig per_layer_inputs_config(const Decoder& d, int64_t width, int64_t rows) {
  PerLayerInputsConfig inputs;
  inputs.hidden_size = d.config.hidden_size;
  inputs.layers = d.config.num_hidden_layers;
  inputs.width = width;
  inputs.vocab_size = d.hf.positive_or("vocab_size_per_layer_input", rows);
  inputs.eps = d.norm.eps;
  return inputs;
}

}  // namespace loraine
