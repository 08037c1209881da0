// Measures a GPU: what it reaches at most, the ops of a training step at the shape of a model, whole steps of random weights. A line of
// JSON for each, on stdout. Called by bench/gpu.sh. --tiny: sizes at which the emulated GPU is done soon, to see that it runs.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "loraine/core/error.h"
#include "loraine/kernels/activations/activations_cuda.h"
#include "loraine/kernels/norms/norms_cuda.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"
#include "loraine/train/gpu/gpu_training.h"
#include "loraine/train/optimizers/recipe.h"

namespace loraine {
namespace {

struct Shape {  // of a model's blocks
  const char* name;
  int64_t hidden, layers, heads, kv_heads, head_dim, inner, vocabulary;
  int64_t q() const { return heads * head_dim; }
  int64_t kv() const { return kv_heads * head_dim; }
};
constexpr Shape kLarge{"8B", 4096, 32, 32, 8, 128, 14336, 128256}, kSmall{"1B", 2048, 16, 32, 8, 64, 8192, 128256},
    kTiny{"tiny", 64, 2, 2, 1, 64, 128, 256};

double seconds_since_start() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void print(const nlohmann::ordered_json& line) {
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

// Values of BF16, never zeros: products of zeros run faster.
const std::vector<bf16>& random_block(size_t n) {
  static std::vector<bf16> block;
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  while (block.size() < n) block.push_back(f32_to_bf16(normal(random)));
  return block;
}

// A file of random values as the weights of a model, the same bytes behind every tensor: a base of any size without its memory.
class RandomWeights : public TensorSource {
 public:
  explicit RandomWeights(std::vector<TensorInfo> all) : all_(std::move(all)), file_(memfd_create("weights", 0)) {
    for (TensorInfo& info : all_) info.dtype = Dtype::BF16;
    const std::vector<bf16>& block = random_block(kBytes / sizeof(bf16));
    if (file_ < 0 || write(file_, block.data(), kBytes) != static_cast<ssize_t>(kBytes))
      throw Error(ErrorKind::io, "random weights: no memory file");
  }
  ~RandomWeights() override {
    for (const auto& [at, bytes] : mapped_) munmap(at, bytes);
    close(file_);
  }
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo& info) const override {
    Tensor t(nullptr, Dtype::BF16, info.shape);
    const size_t bytes = (t.bytes() + kBytes - 1) / kBytes * kBytes;
    t.data = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (t.data == MAP_FAILED) throw Error(ErrorKind::out_of_memory, "random weights: no addresses");
    for (size_t at = 0; at < bytes; at += kBytes)
      mmap(static_cast<char*>(t.data) + at, kBytes, PROT_READ, MAP_SHARED | MAP_FIXED, file_, 0);
    mapped_.emplace_back(t.data, bytes);
    return t;
  }
  void read(const TensorInfo&, const Tensor& out) const override {  // of norms
    for (int64_t i = 0; i < out.numel(); ++i) out.f32()[i] = 1;
  }

 private:
  static constexpr size_t kBytes = size_t{16} << 20;
  std::vector<TensorInfo> all_;
  int file_;
  mutable std::vector<std::pair<void*, size_t>> mapped_;
};

Model random_base(const Shape& s) {
  const nlohmann::json config = {{"model_type", "llama"},
                                 {"vocab_size", s.vocabulary},
                                 {"hidden_size", s.hidden},
                                 {"intermediate_size", s.inner},
                                 {"num_hidden_layers", s.layers},
                                 {"num_attention_heads", s.heads},
                                 {"num_key_value_heads", s.kv_heads},
                                 {"head_dim", s.head_dim},
                                 {"max_position_embeddings", 8192},
                                 {"tie_word_embeddings", false}};
  ModelFiles files;
  files.path = "random";
  files.config = config;
  files.tensors = std::make_unique<RandomWeights>(tensors_of(config, "config.json"));
  return load_model(files, {.bf16 = true});
}

// Device memory with random values.
class Device {
 public:
  Tensor take(Dtype type, int64_t rows, int64_t cols) {
    memory_.emplace_back(static_cast<size_t>(rows * cols) * size_of(type));
    const Tensor t(memory_.back().data(), type, {rows, cols});
    if (staging_.bytes() == 0) {
      staging_ = GpuMemory(kBytes, GpuMemoryKind::pinned);
      std::memcpy(staging_.data(), random_block(kBytes / sizeof(bf16)).data(), kBytes);
    }
    for (size_t at = 0; at < t.bytes(); at += kBytes)
      stream.copy(static_cast<char*>(t.data) + at, staging_.data(), std::min(kBytes, t.bytes() - at));
    return t;
  }
  GpuStream stream;

 private:
  static constexpr size_t kBytes = size_t{1} << 20;
  GpuMemory staging_;
  std::vector<GpuMemory> memory_;
};

struct Timing {
  double seconds;  // of one call, the median of several
  GpuCosts::Op costs;
};

Timing timed(GpuStream& stream, bool tiny, const std::function<void()>& call) {
  GpuCosts costs;
  stream.count(&costs);
  call();
  stream.count(nullptr);
  const int calls = tiny ? 1 : 5, rounds = tiny ? 1 : 20;
  for (int i = 0; i < (tiny ? 0 : 3); ++i) call();
  stream.synchronise();
  std::vector<double> seconds;
  for (int round = 0; round < rounds; ++round) {
    const double begin = seconds_since_start();
    for (int i = 0; i < calls; ++i) call();
    stream.synchronise();
    seconds.push_back((seconds_since_start() - begin) / calls);
  }
  std::ranges::sort(seconds);
  return {seconds[seconds.size() / 2], costs.all()};
}

struct Ceilings {
  double bytes, matrix;  // a second
};

Ceilings measure_ceilings(bool tiny) {
  Device device;
  const int64_t n = tiny ? 64 : 8192, large = tiny ? 1 << 16 : int64_t{1} << 29;
  const Tensor from = device.take(Dtype::BF16, 1, large), to = device.take(Dtype::BF16, 1, large);
  const Timing copy = timed(device.stream, tiny, [&] { device.stream.copy(to.data, from.data, from.bytes()); });
  const Tensor x = device.take(Dtype::BF16, n, n), w = device.take(Dtype::BF16, n, n), y = device.take(Dtype::BF16, n, n);
  Gemm gemm;
  const Timing product = timed(device.stream, tiny, [&] { gemm.multiply(device.stream, ProductForm::nt, y, x, w); });
  const Ceilings found{2 * static_cast<double>(from.bytes()) / copy.seconds, product.costs.matrix / product.seconds};
  print({{"kind", "ceilings"}, {"copy_tb_s", found.bytes / 1e12}, {"product_tf_s", found.matrix / 1e12}});
  return found;
}

double least_seconds(const GpuCosts::Op& costs, const Ceilings& ceilings) {
  return std::max(costs.bytes / ceilings.bytes, (costs.matrix + costs.scalar) / ceilings.matrix);
}

void measure_ops(const Shape& s, int64_t rows, const Ceilings& ceilings, bool tiny) {
  Device device;
  GpuStream& stream = device.stream;
  Gemm gemm;
  const int64_t ranks = 16, C = s.hidden, qkv = s.q() + 2 * s.kv();
  const auto op = [&](const std::string& name, const std::function<void()>& call) {
    const Timing t = timed(stream, tiny, call);
    print({{"kind", "op"},
           {"name", name},
           {"us", 1e6 * t.seconds},
           {"tb_s", t.costs.bytes / t.seconds / 1e12},
           {"tf_s", (t.costs.matrix + t.costs.scalar) / t.seconds / 1e12},
           {"share", least_seconds(t.costs, ceilings) / t.seconds}});
  };
  const auto narrow = [&](int64_t r, int64_t c) { return device.take(Dtype::BF16, r, c); };
  const auto wide = [&](int64_t r, int64_t c) { return device.take(Dtype::F32, r, c); };
  const Tensor x = narrow(rows, C), h = narrow(rows, C + ranks).col_range(0, C), sum = wide(rows, C), weight = wide(1, C),
               d_y = narrow(rows, C + ranks).col_range(0, C), d_h = narrow(rows, C);
  const Tensor factors(weight.data, Dtype::F32, {C}), rstd(wide(1, rows).data, Dtype::F32, {rows});
  op("add_rms_norm", [&] { add_rms_norm_cuda(stream, h, rstd, sum, x, {}, factors, 1e-5f, 0); });
  op("rms_norm_backward", [&] { rms_norm_backward_cuda(stream, sum, d_h, x, rstd, factors, true, 0, d_y, h); });
  const Tensor inner = narrow(rows, 2 * s.inner + ranks).col_range(0, 2 * s.inner), f = narrow(rows, s.inner + ranks).col_range(0, s.inner),
               d_f = narrow(rows, s.inner);
  op("gated_activate", [&] { gated_activate_cuda(stream, f, inner, {Activation::silu}); });
  op("gated_activate_backward", [&] { gated_activate_backward_cuda(stream, inner, d_f, inner, {Activation::silu}, f); });
  const auto product = [&](const char* name, const Tensor& left, int64_t out, const Tensor& d_out) {
    const Tensor joined = narrow(out + ranks, left.cols() + ranks), d_a = wide(ranks, left.cols()), d_b = wide(out, ranks);
    const Tensor y = narrow(rows, out + ranks).col_range(0, out), all = left.col_range(0, left.cols() + ranks),
                 right = left.col_range(left.cols(), ranks);
    const Tensor a = joined.row_range(out, ranks).col_range(0, left.cols()), d_all = d_out.col_range(0, out + ranks),
                 g = d_out.col_range(out, ranks);
    op(std::string(name) + ", A x", [&] { gemm.multiply(stream, ProductForm::nt, right, left, a); });
    op(std::string(name) + ", forward", [&] { gemm.multiply(stream, ProductForm::nt, y, all, joined.row_range(0, out)); });
    op(std::string(name) + ", d_y B",
       [&] { gemm.multiply(stream, ProductForm::nn, g, d_out, joined.row_range(0, out).col_range(left.cols(), ranks)); });
    const Tensor d_x = narrow(rows, left.cols());
    op(std::string(name) + ", back", [&] { gemm.multiply(stream, ProductForm::nn, d_x, d_all, joined.col_range(0, left.cols())); });
    op(std::string(name) + ", gradient of B", [&] { gemm.multiply(stream, ProductForm::tn, d_b, d_out, right, true, 2); });
    op(std::string(name) + ", gradient of A", [&] { gemm.multiply(stream, ProductForm::tn, d_a, g, left, true); });
  };
  const Tensor d_qkv = narrow(rows, qkv + ranks).col_range(0, qkv);
  product("q, k, v", h, qkv, d_qkv);
  product("gate, up", h, 2 * s.inner, inner);
  product("down", f, C, d_y);
}

Batch packed(int64_t rows, int64_t length, int64_t vocabulary) {
  Batch batch;
  for (int64_t start = 0; start < rows; start += length) {
    batch.sequences.push_back({start, length, start, length});
    for (int64_t t = 0; t < length; ++t) {
      batch.tokens.push_back(static_cast<int32_t>((start + t) * 7919 % vocabulary));
      batch.positions.push_back(static_cast<int32_t>(t));
      batch.labels.push_back(static_cast<int32_t>((start + t) * 104729 % vocabulary));
    }
  }
  batch.adapter_rows = {{0, batch.rows(), 0}};
  return batch;
}

void measure_steps(const Shape& s, int64_t rows, int64_t length, int64_t rank, Recompute recompute, const Ceilings& ceilings, bool tiny) {
  const Model model = random_base(s);
  LoraConfig lora;
  lora.r = rank, lora.lora_alpha = static_cast<double>(2 * rank);
  lora.target_modules = {kAllLinear};
  name_targets(lora, model);
  const AdapterSet set = attach_adapter(model, lora, true);
  TrainConfig config;
  std::vector<Parameter> parameters = set.parameters();
  Recipe recipe = recipe_of(config, model.config, parameters, 0);
  Optimizer optimizer(std::move(parameters), std::move(recipe));
  const GpuTraining::Bytes planned = GpuTraining::bytes(model, set, {rows, recompute});
  const char* levels[] = {"none", "mlp", "block"};
  nlohmann::ordered_json line = {{"kind", "step"},
                                 {"model", s.name},
                                 {"rows", rows},
                                 {"rank", rank},
                                 {"recompute", levels[static_cast<int>(recompute)]},
                                 {"planned_gb", static_cast<double>(planned.all()) / 1e9}};
  const size_t before = free_gpu_bytes();
  if (planned.all() > before) {
    line["skipped"] = "the card has less memory free";
    return print(line);
  }
  GpuTraining training(config, model, set, optimizer, {rows, recompute});
  training.put();
  line["taken_gb"] = static_cast<double>(before - free_gpu_bytes()) / 1e9;
  const Batch batch = packed(rows, length, s.vocabulary);
  GpuCosts costs;
  std::vector<double> seconds;
  double loss = 0;
  for (int step = 0; step < (tiny ? 2 : 8); ++step) {
    training.stream().count(step == 1 ? &costs : nullptr);
    const double begin = seconds_since_start();
    training.zero_gradients();
    training.forward({}, batch, true);
    training.losses_later({}, 1.0f / static_cast<float>(rows), static_cast<double>(rows));
    training.backward();
    loss = training.update(1e-4, step + 1).loss;
    if (step >= (tiny ? 1 : 3)) seconds.push_back(seconds_since_start() - begin);
  }
  std::ranges::sort(seconds);
  double least = 0, flops = 0;
  for (const auto& [name, op] : costs.ops) least += least_seconds(op, ceilings), flops += op.matrix;
  const double median = seconds[seconds.size() / 2];
  line["loss"] = loss;
  line["tokens_s"] = static_cast<double>(rows) / median;
  line["predicted_tokens_s"] = static_cast<double>(rows) / least;
  line["share"] = least / median;
  line["tf_s"] = flops / median / 1e12;
  line["launches"] = costs.all().launches;
  line["waits"] = costs.waits;
  print(line);
}

int bench(bool tiny) {
  const GpuCard& card = open_gpu();
  print({{"kind", "card"},
         {"name", card.name},
         {"capability", card.capability},
         {"multiprocessors", card.multiprocessors},
         {"free_gb", static_cast<double>(free_gpu_bytes()) / 1e9},
         {"emulated", card.emulated}});
  const Ceilings ceilings = measure_ceilings(tiny);
  if (tiny) {
    measure_ops(kTiny, 64, ceilings, true);
    measure_steps(kTiny, 64, 32, 8, Recompute::none, ceilings, true);
    measure_steps(kTiny, 64, 32, 8, Recompute::block, ceilings, true);
    return 0;
  }
  measure_ops(kLarge, 16384, ceilings, false);
  measure_steps(kSmall, 16384, 2048, 16, Recompute::none, ceilings, false);
  for (const Recompute level : {Recompute::none, Recompute::mlp, Recompute::block})
    measure_steps(kLarge, level == Recompute::none ? 16384 : 8192, 2048, 16, level, ceilings, false);
  measure_steps(kLarge, 8192, 2048, 64, Recompute::none, ceilings, false);
  return 0;
}

}  // namespace
}  // namespace loraine

int main(int argc, char** argv) {
  try {
    return loraine::bench(argc > 1 && std::strcmp(argv[1], "--tiny") == 0);
  } catch (const loraine::Error& error) {
    std::fprintf(stderr, "gpu_bench: %s. %s\n", error.what(), error.hint.c_str());
    return 1;
  }
}
