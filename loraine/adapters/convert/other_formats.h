// Adapters in the forms of other programs, read and written as low-rank modules: mlx-lm's folder, llama.cpp's GGUF (written by
// loraine/export, which needs the model), and files with the names of kohya-ss/sd-scripts. Called by loraine adapter convert.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loraine/adapters/stored/write_low_rank.h"
#include "loraine/io/gguf/gguf_outputs.h"

namespace loraine {

enum class AdapterFormat : uint8_t { peft, mlx, gguf, kohya };
const char* name_of(AdapterFormat format);
AdapterFormat format_of_adapter(const std::string& path);  // by what lies there; bad_data when it is none of them

struct LowRankSet {
  std::vector<LowRankModule> modules;
  std::string base;  // as the adapter names it; may be empty
};

// PEFT's folder. unsupported for one that is more than low-rank products.
LowRankSet read_peft_set(const std::string& folder);

// mlx-lm's: adapters.safetensors with lora_a [in, r] and lora_b [r, out], adapter_config.json with rank, scale and keys. unsupported for
// DoRA, whole weights and experts.
LowRankSet read_mlx(const std::string& folder);
// All modules get the largest rank, with zeros, since mlx-lm has one; where scales differ, they become part of lora_b. unsupported for
// modules that mlx-lm has under other names: those outside model.layers, model.embed_tokens and lm_head.
void write_mlx(const LowRankSet& set, const std::string& folder, bool overwrite);

// heads: of the base, which architectures need whose rows of q and k lie in pairs; usage without them.
LowRankSet read_gguf_adapter(const std::string& path, const std::optional<GgufHeads>& heads);

// lora_te_model_layers_0_self_attn_q_proj.lora_down.weight: underscores stand for points, so that only the base's own names of modules tell
// which is meant. paths: those. usage without any; bad_data for a name that is none of them, or two.
LowRankSet read_kohya(const std::string& file, const std::vector<std::string>& paths);
void write_kohya(const LowRankSet& set, const std::string& file, const std::string& prefix, bool overwrite);

}  // namespace loraine
