// Tests of what each GGUF architecture becomes: names, values that are stored in another way, keys. The files are made here;
// tools/interop_gguf.py compares with llama.cpp's converters.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/gguf/gguf_names.h"
#include "loraine/io/gguf_model.h"

namespace loraine::gguf_architectures_test {
namespace {

std::string folder() {
  static std::string made = [] {
    char name[] = "/tmp/loraine_gguf_architectures_XXXXXX";
    return std::string(mkdtemp(name));
  }();
  return made;
}

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void append_text(std::string& out, const std::string& text) {
  append<uint64_t>(out, text.size());
  out += text;
}

// A model of one layer; sizes are small, values count up from 0.
struct Made {
  std::string architecture, keys, tensors, data;
  uint64_t key_count = 0, tensor_count = 0;

  explicit Made(const std::string& name) : architecture(name) {
    append_text(keys, "general.architecture");
    append<uint32_t>(keys, 8);
    append_text(keys, name);
    key_count = 1;
    for (auto [key, value] : {std::pair{"block_count", 1u},
                              {"embedding_length", 8u},
                              {"context_length", 64u},
                              {"feed_forward_length", 4u},
                              {"attention.head_count", 2u},
                              {"attention.head_count_kv", 1u}})
      size(key, value);
    number("attention.layer_norm_rms_epsilon", 1e-6f);
    tensor("token_embd.weight", {8, 8});
  }
  Made& size(const std::string& key, uint32_t value) {
    append_text(keys, architecture + "." + key);
    append<uint32_t>(keys, 4);
    append(keys, value);
    ++key_count;
    return *this;
  }
  Made& number(const std::string& key, float value) {
    append_text(keys, architecture + "." + key);
    append<uint32_t>(keys, 6);
    append(keys, value);
    ++key_count;
    return *this;
  }
  Made& numbers(const std::string& key, const std::vector<float>& values) {
    append_text(keys, architecture + "." + key);
    append<uint32_t>(keys, 9);
    append<uint32_t>(keys, 6);
    append<uint64_t>(keys, values.size());
    for (const float value : values) append(keys, value);
    ++key_count;
    return *this;
  }
  Made& flags(const std::string& key, const std::vector<bool>& values) {
    append_text(keys, architecture + "." + key);
    append<uint32_t>(keys, 9);
    append<uint32_t>(keys, 7);
    append<uint64_t>(keys, values.size());
    for (const bool value : values) append<uint8_t>(keys, value);
    ++key_count;
    return *this;
  }
  // shape: Hugging Face's order. first: of the values.
  Made& tensor(const std::string& name, const std::vector<uint64_t>& shape, float first = 0) {
    const uint64_t count = std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>());
    append_text(tensors, name);
    append<uint32_t>(tensors, static_cast<uint32_t>(shape.size()));
    for (size_t i = shape.size(); i-- > 0;) append(tensors, shape[i]);
    append<uint32_t>(tensors, 0);
    append<uint64_t>(tensors, data.size());
    for (uint64_t i = 0; i < count; ++i) append(data, first + static_cast<float>(i));
    data.append((32 - data.size() % 32) % 32, '\0');
    ++tensor_count;
    return *this;
  }
  ModelFiles open() const {
    std::string bytes = "GGUF";
    append<uint32_t>(bytes, 3);
    append(bytes, tensor_count);
    append(bytes, key_count);
    bytes += keys + tensors;
    bytes.append((32 - bytes.size() % 32) % 32, '\0');
    const std::string path = folder() + "/" + architecture + ".gguf";
    write_file(path, bytes + data);
    return open_model_files(path);
  }
};

std::vector<float> values(const ModelFiles& files, const std::string& name, const std::vector<int64_t>& shape) {
  const TensorInfo* info = files.tensors->find(name);
  EXPECT_NE(info, nullptr) << name;
  if (!info) return {};
  EXPECT_EQ(info->shape, shape) << name;
  std::vector<float> out(static_cast<size_t>(std::accumulate(info->shape.begin(), info->shape.end(), int64_t{1}, std::multiplies<>())));
  files.tensors->read(*info, Tensor(out.data(), Dtype::F32, std::span<const int64_t>(info->shape)));
  return out;
}

TEST(GgufArchitectures, EveryEntryNamesItsTensors) {
  std::set<std::string_view> names;
  for (const GgufArchitecture& each : gguf_architectures()) {
    EXPECT_TRUE(names.insert(each.name).second) << each.name;
    EXPECT_TRUE(gguf_target(each, "token_embd.weight")) << each.name;
    EXPECT_TRUE(gguf_target(each, "output.weight")) << each.name;
    for (const GgufNames& list : each.block)
      for (const GgufName& name : list) EXPECT_FALSE(name.gguf.empty());
  }
  EXPECT_EQ(gguf_target(gguf_architectures()[0], "blk.7.ffn_up.bias")->name, "model.layers.7.mlp.up_proj.bias");
}

TEST(GgufArchitectures, NormsThatAreStoredPlusOne) {
  Made made("gemma3");
  made.size("attention.sliding_window", 16).tensor("output_norm.weight", {8}).tensor("blk.0.ffn_norm.weight", {8}, 5);
  const ModelFiles files = made.open();
  EXPECT_EQ(values(files, "model.norm.weight", {8}), (std::vector<float>{-1, 0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(values(files, "model.layers.0.pre_feedforward_layernorm.weight", {8})[0], 4);
  EXPECT_EQ(files.tensors->map(*files.tensors->find("model.norm.weight")).data, nullptr);
  EXPECT_EQ(files.config["model_type"], "gemma3_text");
  EXPECT_EQ(files.config["layer_types"], Json({"sliding_attention"}));
  EXPECT_EQ(files.config["query_pre_attn_scalar"], 4);
  EXPECT_EQ(files.config["rope_local_base_freq"], 10000.0);
  EXPECT_EQ(files.config["tie_word_embeddings"], true);
}

TEST(GgufArchitectures, StacksOfExperts) {
  Made made("qwen3moe");
  made.size("expert_count", 3).size("expert_used_count", 2).size("expert_feed_forward_length", 2);
  made.tensor("blk.0.ffn_gate_exps.weight", {3, 2, 8}).tensor("blk.0.ffn_gate_inp.weight", {3, 8});
  const ModelFiles files = made.open();
  EXPECT_EQ(values(files, "model.layers.0.mlp.experts.2.gate_proj.weight", {2, 8})[0], 32);
  EXPECT_NE(files.tensors->map(*files.tensors->find("model.layers.0.mlp.experts.1.gate_proj.weight")).data, nullptr);  // a view
  EXPECT_EQ(files.config["num_experts"], 3);
  EXPECT_EQ(files.config["norm_topk_prob"], true);
}

TEST(GgufArchitectures, HalvesOfOneMatrix) {
  Made made("granitemoe");
  made.size("expert_count", 2).size("expert_used_count", 1);
  made.tensor("blk.0.ffn_gate_exps.weight", {2, 2, 8}).tensor("blk.0.ffn_up_exps.weight", {2, 2, 8}, 100);
  const ModelFiles files = made.open();
  const std::vector<float> all = values(files, "model.layers.0.block_sparse_moe.input_linear.weight", {2, 4, 8});
  EXPECT_EQ((std::vector<float>{all[0], all[16], all[32], all[48]}), (std::vector<float>{0, 100, 16, 116}));
  EXPECT_EQ(files.config["intermediate_size"], 2);
  Made half("granitemoe");
  half.size("expert_count", 2).tensor("blk.0.ffn_gate_exps.weight", {2, 2, 8});
  EXPECT_THROW(half.open(), Error);
}

TEST(GgufArchitectures, OneMatrixOfQueriesKeysAndValues) {
  Made made("llama");
  made.tensor("blk.0.attn_qkv.weight", {16, 8});
  const ModelFiles files = made.open();
  const std::vector<float> q = values(files, "model.layers.0.self_attn.q_proj.weight", {8, 8});
  EXPECT_EQ(q[8], 16);  // rows 0, 2, 1, 3
  EXPECT_EQ(values(files, "model.layers.0.self_attn.k_proj.weight", {4, 8})[8], 80);
  EXPECT_EQ(values(files, "model.layers.0.self_attn.v_proj.weight", {4, 8})[8], 104);
  Made neox("gptneox");
  neox.number("attention.layer_norm_epsilon", 1e-5f).tensor("blk.0.attn_qkv.bias", {24}).tensor("output.weight", {8, 8});
  const std::vector<float> by_head = values(neox.open(), "gpt_neox.layers.0.attention.query_key_value.bias", {24});
  EXPECT_EQ((std::vector<float>{by_head[0], by_head[4], by_head[8], by_head[12]}), (std::vector<float>{0, 8, 16, 4}));
}

TEST(GgufArchitectures, ColumnsOfGptOss) {
  Made made("gpt-oss");
  made.size("expert_count", 2).size("expert_used_count", 1).size("attention.sliding_window", 4);
  made.tensor("blk.0.ffn_gate_exps.weight", {2, 2, 8}).tensor("blk.0.ffn_up_exps.weight", {2, 2, 8}, 100);
  made.tensor("blk.0.ffn_gate_exps.bias", {2, 2}).tensor("blk.0.ffn_up_exps.bias", {2, 2}, 100);
  made.tensor("blk.0.ffn_down_exps.weight", {2, 8, 2});
  const ModelFiles files = made.open();
  const std::vector<float> both = values(files, "model.layers.0.mlp.experts.gate_up_proj", {2, 8, 4});
  EXPECT_EQ((std::vector<float>{both[0], both[1], both[2], both[3], both[4], both[32]}), (std::vector<float>{0, 100, 8, 108, 1, 16}));
  EXPECT_EQ(values(files, "model.layers.0.mlp.experts.gate_up_proj_bias", {2, 4}), (std::vector<float>{0, 100, 1, 101, 2, 102, 3, 103}));
  const std::vector<float> down = values(files, "model.layers.0.mlp.experts.down_proj", {2, 2, 8});
  EXPECT_EQ((std::vector<float>{down[0], down[1], down[8], down[16]}), (std::vector<float>{0, 2, 1, 16}));
  const auto columns = files.tensors->map_pieces(*files.tensors->find("model.layers.0.mlp.experts.gate_up_proj"));
  ASSERT_EQ(columns.size(), 2u);  // as they lie in the file
  for (size_t half = 0; half < 2; ++half) {
    EXPECT_EQ(columns[half].rows.shape_text(), "[2, 2, 8]");
    EXPECT_EQ(columns[half].first, static_cast<int64_t>(half));
    EXPECT_EQ(columns[half].step, 2);
    for (int64_t i = 0; i < 32; ++i) EXPECT_EQ(columns[half].rows.f32()[i], static_cast<float>(100 * half) + static_cast<float>(i));
  }
  const auto one = files.tensors->map_pieces(*files.tensors->find("model.layers.0.mlp.experts.down_proj"));
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].rows.shape_text(), "[2, 8, 2]");
  EXPECT_EQ(one[0].rows.f32()[17], 17);
  EXPECT_TRUE(files.tensors->map_pieces(*files.tensors->find("model.layers.0.mlp.experts.gate_up_proj_bias")).empty());
}

TEST(GgufArchitectures, ExpertsOfLlama4) {
  Made made("llama4");
  made.size("expert_count", 2).size("expert_used_count", 1).size("expert_feed_forward_length", 2).size("interleave_moe_layer_step", 1);
  made.tensor("blk.0.ffn_gate_exps.weight", {2, 2, 8}).tensor("blk.0.ffn_up_exps.weight", {2, 2, 8}, 100);
  made.tensor("blk.0.ffn_down_exps.weight", {2, 8, 2}).tensor("blk.0.ffn_gate_inp.weight", {2, 8});
  const ModelFiles files = made.open();
  const std::string name = "model.layers.0.feed_forward.experts.gate_up_proj";
  const std::vector<float> both = values(files, name, {2, 8, 4});
  EXPECT_EQ((std::vector<float>{both[0], both[1], both[2], both[3], both[4], both[32]}), (std::vector<float>{0, 8, 100, 108, 1, 16}));
  const auto pieces = files.tensors->map_pieces(*files.tensors->find(name));
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[1].first, 2);
  EXPECT_EQ(pieces[1].step, 1);
  EXPECT_EQ(pieces[1].rows.f32()[0], 100);
  EXPECT_EQ(files.config["model_type"], "llama4_text");
  EXPECT_EQ(files.config["intermediate_size"], 2);
  EXPECT_EQ(files.config["intermediate_size_mlp"], 4);
  EXPECT_EQ(files.config["no_rope_layers"], Json::array({1}));
  EXPECT_EQ(files.config["moe_layers"], Json::array({0}));
  EXPECT_EQ(files.config["attention_chunk_size"], 8192);
}

TEST(GgufArchitectures, LayersOfJamba) {
  Made made("jamba");
  for (auto [key, value] : {std::pair{"ssm.inner_size", 16u},
                            {"ssm.state_size", 2u},
                            {"ssm.conv_kernel", 3u},
                            {"ssm.time_step_rank", 1u},
                            {"expert_count", 2u},
                            {"expert_used_count", 1u}})
    made.size(key, value);
  made.tensor("blk.0.ssm_a", {16, 2}, -40).tensor("blk.0.ssm_conv1d.weight", {16, 3}).tensor("blk.0.ssm_d", {16});
  made.tensor("blk.0.ffn_gate_exps.weight", {2, 4, 8}).tensor("blk.0.ffn_gate_inp.weight", {2, 8}).tensor("output_norm.weight", {8});
  const ModelFiles files = made.open();
  EXPECT_EQ(values(files, "model.layers.0.mamba.A_log", {16, 2})[3], std::log(37.0f));
  EXPECT_EQ(values(files, "model.layers.0.mamba.conv1d.weight", {16, 1, 3})[4], 4);
  EXPECT_EQ(values(files, "model.layers.0.feed_forward.experts.1.gate_proj.weight", {4, 8})[0], 32);
  EXPECT_NE(files.tensors->find("model.final_layernorm.weight"), nullptr);
  EXPECT_EQ(files.config["mamba_expand"], 2);
  EXPECT_EQ(files.config["attn_layer_offset"], 0);  // the file gives it key-value heads
  EXPECT_EQ(files.config["expert_layer_offset"], 0);
  EXPECT_EQ(files.config["num_experts"], 2);
}

TEST(GgufArchitectures, MiniCpmMistral4AndPhiMoe) {
  Made cpm("minicpm3");
  cpm.size("attention.key_length", 6)
      .size("rope.dimension_count", 2)
      .size("attention.kv_lora_rank", 3)
      .tensor("blk.0.attn_kv_b.weight", {14, 3});
  const ModelFiles of_cpm = cpm.open();
  EXPECT_EQ(of_cpm.config["qk_nope_head_dim"], 4);
  EXPECT_EQ(of_cpm.config["v_head_dim"], 3);
  EXPECT_EQ(of_cpm.config["scale_emb"], 12);
  Made few("minicpm3");
  few.size("attention.key_length", 6)
      .size("rope.dimension_count", 2)
      .size("attention.kv_lora_rank", 3)
      .tensor("blk.0.attn_kv_b.weight", {8, 3});
  EXPECT_THROW(few.open(), Error);  // no rows are left for values

  Made mistral("mistral4");
  mistral.size("attention.key_length_mla", 6).size("attention.value_length_mla", 2).size("attention.kv_lora_rank", 3);
  mistral.size("rope.dimension_count", 2).size("expert_count", 2).size("expert_used_count", 1).size("expert_feed_forward_length", 2);
  mistral.tensor("blk.0.ffn_gate_exps.weight", {2, 2, 8}).tensor("blk.0.ffn_up_exps.weight", {2, 2, 8}, 100);
  const ModelFiles of_mistral = mistral.open();
  const std::string name = "model.layers.0.mlp.experts.gate_up_proj";
  EXPECT_EQ(values(of_mistral, name, {2, 4, 8})[16], 100);
  const auto pieces = of_mistral.tensors->map_pieces(*of_mistral.tensors->find(name));
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[1].first, 2);
  EXPECT_EQ(of_mistral.config["model_type"], "mistral4");
  EXPECT_EQ(of_mistral.config["norm_topk_prob"], true);

  Made phi("phimoe");
  phi.size("expert_count", 2).size("expert_used_count", 1).size("rope.scaling.original_context_length", 16);
  phi.number("rope.scaling.attn_factor", 1.25f).tensor("rope_factors_long.weight", {2}, 4).tensor("rope_factors_short.weight", {2}, 1);
  phi.tensor("output.weight", {8, 8}).tensor("output.bias", {8}).tensor("blk.0.ffn_gate_exps.weight", {2, 4, 8});
  const ModelFiles of_phi = phi.open();
  EXPECT_EQ(of_phi.config["lm_head_bias"], true);
  EXPECT_EQ(of_phi.config["rope_scaling"]["short_mscale"], 1.25);
  EXPECT_EQ(of_phi.config["rope_scaling"]["original_max_position_embeddings"], 16);
  EXPECT_NE(of_phi.tensors->find("model.layers.0.block_sparse_moe.experts.1.w1.weight"), nullptr);
}

TEST(GgufArchitectures, HeadsOfLatentAttention) {
  Made made("deepseek2");
  made.size("attention.key_length_mla", 6)
      .size("attention.value_length_mla", 2)
      .size("attention.kv_lora_rank", 3)
      .size("rope.dimension_count", 2);
  made.tensor("blk.0.attn_k_b.weight", {2, 3, 4}).tensor("blk.0.attn_v_b.weight", {2, 2, 3}, 100);
  const ModelFiles files = made.open();
  const std::vector<float> all = values(files, "model.layers.0.self_attn.kv_b_proj.weight", {12, 3});
  EXPECT_EQ((std::vector<float>{all[0], all[1], all[3], all[12], all[18]}), (std::vector<float>{0, 4, 1, 100, 12}));
  EXPECT_EQ(files.config["qk_nope_head_dim"], 4);
  EXPECT_EQ(files.config["model_type"], "deepseek_v3");
}

TEST(GgufArchitectures, ValueHeadsOfTheDeltaRule) {
  Made made("qwen35");
  made.size("ssm.group_count", 2)
      .size("ssm.time_step_rank", 4)
      .size("ssm.state_size", 1)
      .size("ssm.inner_size", 4)
      .size("ssm.conv_kernel", 2);
  made.size("attention.key_length", 4).flags("attention.recurrent_layers", {true});
  made.tensor("blk.0.ssm_dt.bias", {4}).tensor("blk.0.ssm_a", {4}, -9).tensor("blk.0.ssm_conv1d.weight", {8, 2});
  made.tensor("blk.0.ssm_out.weight", {8, 4}).tensor("blk.0.ssm_norm.weight", {1}, 7).tensor("blk.0.attn_norm.weight", {8});
  const ModelFiles files = made.open();
  EXPECT_EQ(values(files, "model.layers.0.linear_attn.dt_bias", {4}), (std::vector<float>{0, 2, 1, 3}));
  EXPECT_EQ(values(files, "model.layers.0.linear_attn.A_log", {4}),
            (std::vector<float>{std::log(9.0f), std::log(7.0f), std::log(8.0f), std::log(6.0f)}));
  EXPECT_EQ(values(files, "model.layers.0.linear_attn.conv1d.weight", {8, 1, 2})[10], 12);
  const std::vector<float> out = values(files, "model.layers.0.linear_attn.out_proj.weight", {8, 4});
  EXPECT_EQ((std::vector<float>{out[0], out[1], out[2], out[3]}), (std::vector<float>{0, 2, 1, 3}));
  EXPECT_EQ(values(files, "model.layers.0.linear_attn.norm.weight", {1})[0], 7);
  EXPECT_EQ(values(files, "model.layers.0.input_layernorm.weight", {8})[0], -1);
  EXPECT_EQ(files.config["layer_types"], Json({"linear_attention"}));
}

TEST(GgufArchitectures, StreamsAndSparsityOfGemma3n) {
  Made made("gemma3n");
  made.size("attention.sliding_window", 16).flags("attention.sliding_window_pattern", {true}).size("altup.num_inputs", 3);
  made.size("embedding_length_per_layer_input", 2).size("attention.shared_kv_layers", 0);
  made.numbers("activation_sparsity_scale", {1.6448536f});
  made.tensor("altup_proj.weight", {2, 8, 8}).tensor("per_layer_token_embd.weight", {7, 2}).tensor("blk.0.laurel_l.weight", {5, 8});
  made.tensor("blk.0.altup_correct_scale.weight", {8}, 3).tensor("blk.0.altup_router_norm.weight", {8}, 4);
  const ModelFiles files = made.open();
  EXPECT_EQ(values(files, "model.altup_projections.1.weight", {8, 8})[0], 64);
  EXPECT_EQ(values(files, "model.layers.0.altup.correct_output_scale", {8})[0], 3);
  EXPECT_EQ(values(files, "model.layers.0.altup.router_norm.weight", {8})[0], 4);  // not stored + 1
  EXPECT_EQ(files.config["activation_sparsity_pattern"], Json({0.95}));
  EXPECT_EQ(files.config["vocab_size_per_layer_input"], 7);
  EXPECT_EQ(files.config["laurel_rank"], 5);
  EXPECT_EQ(files.config["altup_num_inputs"], 3);
  Made none("gemma3n");
  none.size("attention.sliding_window", 16).numbers("activation_sparsity_scale", {-INFINITY});
  EXPECT_EQ(none.open().config["activation_sparsity_pattern"], Json({0.0}));
  EXPECT_FALSE(Made("gemma3n").size("attention.sliding_window", 16).open().config.contains("activation_sparsity_pattern"));
}

TEST(GgufArchitectures, KimiLinear) {
  Made made("kimi-linear");
  made.size("attention.key_length_mla", 6)
      .size("attention.value_length_mla", 2)
      .size("attention.kv_lora_rank", 3)
      .size("rope.dimension_count", 2)
      .size("kda.head_dim", 4)
      .size("ssm.conv_kernel", 3)
      .size("expert_count", 2)
      .size("expert_used_count", 1)
      .size("expert_feed_forward_length", 4)
      .size("expert_shared_count", 1)
      .number("expert_weights_scale", 2.5f);
  made.tensor("blk.0.ssm_a", {1, 1, 2, 1}, -9).tensor("blk.0.ssm_dt.bias", {8}).tensor("blk.0.ssm_conv1d_k.weight", {1, 8, 1, 3});
  made.tensor("blk.0.ssm_conv1d_v.weight", {8, 3}).tensor("blk.0.ssm_f_a.weight", {4, 8}).tensor("blk.0.ssm_norm.weight", {4});
  made.tensor("blk.0.exp_probs_b.bias", {2}).tensor("blk.0.ffn_up_shexp.weight", {4, 8}).tensor("blk.0.ffn_down_exps.weight", {2, 8, 4});
  const ModelFiles files = made.open();
  const std::string layer = "model.layers.0.";
  EXPECT_EQ(values(files, layer + "self_attn.A_log", {1, 1, 2, 1}), (std::vector<float>{std::log(9.0f), std::log(8.0f)}));
  EXPECT_EQ(values(files, layer + "self_attn.k_conv1d.weight", {8, 1, 3})[4], 4);
  EXPECT_EQ(values(files, layer + "self_attn.v_conv1d.weight", {8, 1, 3})[4], 4);
  EXPECT_EQ(values(files, layer + "self_attn.f_a_proj.weight", {4, 8})[9], 9);
  EXPECT_EQ(values(files, layer + "block_sparse_moe.gate.e_score_correction_bias", {2})[1], 1);
  EXPECT_EQ(values(files, layer + "block_sparse_moe.shared_experts.up_proj.weight", {4, 8})[3], 3);
  EXPECT_EQ(values(files, layer + "block_sparse_moe.experts.1.w2.weight", {8, 4})[0], 32);
  const Json &config = files.config, &linear = config["linear_attn_config"];
  EXPECT_EQ(config["model_type"], "kimi_linear");
  EXPECT_EQ(config["qk_nope_head_dim"], 4);
  EXPECT_EQ(config["model_max_length"], 64);
  EXPECT_EQ(config["num_experts_per_token"], 1);
  EXPECT_EQ(config["routed_scaling_factor"], 2.5);
  EXPECT_EQ(linear["num_heads"], 2);
  EXPECT_EQ(linear["full_attn_layers"], Json({1}));
  EXPECT_EQ(linear["kda_layers"], Json::array());
}

TEST(GgufArchitectures, NormsOfEachHeadAndBiases) {
  Made made("stablelm");
  made.number("attention.layer_norm_epsilon", 1e-5f).tensor("blk.0.attn_q_norm.weight", {2, 4}).tensor("blk.0.attn_q.bias", {8});
  const ModelFiles files = made.open();
  EXPECT_EQ(values(files, "model.layers.0.self_attn.q_layernorm.norms.1.weight", {4})[0], 4);
  EXPECT_EQ(files.config["use_qkv_bias"], true);
  EXPECT_EQ(files.config["qk_layernorm"], true);
  EXPECT_EQ(files.config["use_parallel_residual"], true);
}

TEST(GgufArchitectures, RotationsAndScales) {
  Made made("phi3");
  made.size("rope.dimension_count", 4).size("rope.scaling.original_context_length", 16).number("rope.scaling.attn_factor", 1.5f);
  made.tensor("rope_factors_long.weight", {2}, 4).tensor("rope_factors_short.weight", {2}, 1);
  made.tensor("blk.0.attn_qkv.weight", {16, 8}).tensor("blk.0.ffn_up.weight", {8, 8});
  const ModelFiles files = made.open();
  EXPECT_EQ(files.config["rope_scaling"]["rope_type"], "longrope");
  EXPECT_EQ(files.config["rope_scaling"]["long_factor"], Json({4.0, 5.0}));
  EXPECT_EQ(files.config["rope_scaling"]["attention_factor"], 1.5);
  EXPECT_EQ(files.config["original_max_position_embeddings"], 16);
  EXPECT_NE(files.tensors->find("model.layers.0.mlp.gate_up_proj.weight"), nullptr);
  EXPECT_EQ(Made("granite").number("logit_scale", 8).open().config["logits_scaling"], 8.0);
  Made partial("glm4");
  EXPECT_EQ(partial.size("rope.dimension_count", 2).open().config["partial_rotary_factor"], 0.5);
  Made other("llama");  // factors that are not Llama 3's
  other.tensor("rope_freqs.weight", {2}, 3);
  EXPECT_EQ(other.open().config["rope_scaling"]["short_factor"], Json({3.0, 4.0}));
  Made windows("cohere2");
  windows.number("attention.layer_norm_epsilon", 1e-5f).size("attention.sliding_window", 16);
  EXPECT_EQ(windows.open().config["sliding_window"], 16);
  EXPECT_THROW(Made("cohere2").number("attention.layer_norm_epsilon", 1e-5f).open(), Error);
}

}  // namespace
}  // namespace loraine::gguf_architectures_test
