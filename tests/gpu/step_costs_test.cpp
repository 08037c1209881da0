// What a training step asks of the GPU, counted at the shape of Llama-3-8B without its memory: bytes, FLOPs, launches, waits of the host;
// against what the shapes say that a step needs, and the tokens a second that both allow (docs/cuda.md, "What a step costs").
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "loraine/model/attach.h"
#include "loraine/model/gpu/gpu_support.h"
#include "loraine/train/gpu/gpu_training.h"
#include "loraine/train/optimizers/recipe.h"
#include "tests/support/any_model.h"

namespace loraine::step_costs_test {
namespace {

// Tensors of BF16 whose pages nobody has touched: addresses, and no memory.
class Addresses : public TensorSource {
 public:
  explicit Addresses(std::vector<TensorInfo> all) : all_(std::move(all)) {
    for (TensorInfo& info : all_) info.dtype = Dtype::BF16;
  }
  ~Addresses() override {
    for (const auto& [at, bytes] : mapped_) munmap(at, bytes);
  }
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo& info) const override {
    Tensor t(nullptr, Dtype::BF16, info.shape);
    t.data = mmap(nullptr, t.bytes(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (t.data == MAP_FAILED) throw std::bad_alloc();
    mapped_.emplace_back(t.data, t.bytes());
    return t;
  }
  void read(const TensorInfo&, const Tensor& out) const override { std::memset(out.data, 0, out.bytes()); }  // of norms

 private:
  std::vector<TensorInfo> all_;
  mutable std::vector<std::pair<void*, size_t>> mapped_;
};

constexpr double kLayers = 32, kHidden = 4096, kQ = 4096, kKv = 1024, kInner = 14336, kVocabulary = 128256, kRank = 16;
constexpr double kRows = 16384, kLength = 2048;  // eight sequences

Model llama3_8b() {
  const nlohmann::json config = {
      {"model_type", "llama"},   {"vocab_size", 128256},      {"hidden_size", 4096},         {"intermediate_size", 14336},
      {"num_hidden_layers", 32}, {"num_attention_heads", 32}, {"num_key_value_heads", 8},    {"max_position_embeddings", 8192},
      {"rope_theta", 500000.0},  {"rms_norm_eps", 1e-5},      {"tie_word_embeddings", false}};
  ModelFiles files;
  files.path = "addresses";
  files.config = config;
  files.tensors = std::make_unique<Addresses>(tensors_of(config, "config.json"));
  return load_model(files, {.bf16 = true});
}

Batch packed_batch() {
  Batch batch;
  for (int64_t s = 0; s < 8; ++s) {
    const int64_t start = batch.rows(), length = static_cast<int64_t>(kLength);
    batch.sequences.push_back({start, length, start, length});
    for (int64_t t = 0; t < length; ++t)
      batch.tokens.push_back(1), batch.positions.push_back(static_cast<int32_t>(t)), batch.labels.push_back(1);
  }
  batch.adapter_rows = {{0, batch.rows(), 0}};
  return batch;
}

struct Card {
  const char* name;
  double matrix, bytes, attention_forward, attention_backward;  // a second; what was seen or published of them
  double scalar = 30e12;
};
constexpr Card kH100{"H100", 690e12, 3.0e12, 460e12, 350e12}, kH200{"H200", 700e12, 4.3e12, 484e12, 370e12};
constexpr double kGaps = 1e-3;  // seconds of a step between launches

enum class Part { base, head, attention, adapters, loss, update, rows, kParts };
constexpr const char* kPartNames[] = {"base products", "head", "attention", "adapters", "cross entropy", "update", "rows"};

Part part_of(const std::string& name) {
  long M = 0, N = 0, K = 0;
  if (std::sscanf(name.c_str(), "product %ldx%ldx%ld", &M, &N, &K) == 3) {
    if (std::max({M, N, K}) > 100000) return Part::head;
    return std::min({M, N, K}) <= 64 ? Part::adapters : Part::base;
  }
  if (name.starts_with("thin_") || name == "rank_product" || name == "add_pieces") return Part::adapters;
  if (name == "attention_tiles" || name == "attention_tiles_d_q" || name == "attention_tiles_d_kv") return Part::attention;
  if (name == "add_logits" || name == "logit_gradient" || name == "losses") return Part::loss;
  return name == "adamw" || name.starts_with("gradient_") ? Part::update : Part::rows;
}

struct Counted {
  GpuCosts costs;
  GpuCosts::Op parts[static_cast<int>(Part::kParts)];
  int64_t launches = 0, products = 0;  // ours and the library's
  int64_t forward = 0, backward = 0;   // ours, without those of losses and the update
  const GpuCosts::Op& of(Part part) const { return parts[static_cast<int>(part)]; }
};

// One micro-batch and its update, as train/step.cpp asks for them.
Counted count_step() {
  Counted counted;
  const Model model = llama3_8b();
  EXPECT_EQ(gpu_lacks(model.config), "");
  LoraConfig lora;
  lora.r = static_cast<int64_t>(kRank), lora.lora_alpha = 32;
  lora.target_modules = {kAllLinear};
  name_targets(lora, model);
  const AdapterSet set = attach_adapter(model, lora, true);
  TrainConfig config;
  std::vector<Parameter> parameters = set.parameters();
  Recipe recipe = recipe_of(config, model.config, parameters, 0);
  Optimizer optimizer(std::move(parameters), std::move(recipe));
  const Batch batch = packed_batch();
  GpuTraining training(counted.costs, config, model, set, optimizer, {batch.rows()});
  counted.costs = {};  // of making it
  training.zero_gradients();
  const auto ours = [&] {
    int64_t launches = 0;
    for (const auto& [name, op] : counted.costs.ops) launches += name.starts_with("product") ? 0 : op.launches;
    return launches;
  };
  training.forward({}, batch, true);
  counted.forward = ours();
  training.losses_later({}, 1e-4f, 1e4);
  counted.backward = -ours();
  training.backward();
  counted.backward += ours();
  training.update(1e-4, 1);
  for (const auto& [name, op] : counted.costs.ops) {
    counted.parts[static_cast<int>(part_of(name))].add(op);
    (name.starts_with("product") ? counted.products : counted.launches) += op.launches;
  }
  return counted;
}

// Seconds: every launch as long as the slower of its bytes and its FLOPs.
double seconds_of(const Counted& counted, const Card& card, Part part) {
  double seconds = 0;
  for (const auto& [name, op] : counted.costs.ops) {
    if (part_of(name) != part) continue;
    const double rate = part != Part::attention     ? card.matrix
                        : name == "attention_tiles" ? card.attention_forward
                                                    : card.attention_backward;
    seconds += std::max(op.bytes / card.bytes, op.matrix / rate + op.scalar / card.scalar);
  }
  return seconds;
}

double tokens_a_second(const Counted& counted, const Card& card) {
  double seconds = kGaps;
  for (int part = 0; part < static_cast<int>(Part::kParts); ++part) seconds += seconds_of(counted, card, static_cast<Part>(part));
  return kRows / seconds;
}

// What the shapes say, a token: weights of the blocks, elements that sites read and write.
constexpr double kWeights = kLayers * (kHidden * (kQ + 2 * kKv) + kQ * kHidden + 3 * kHidden * kInner);
constexpr double kIns = kHidden + kQ + kHidden + kInner, kOuts = (kQ + 2 * kKv) + kHidden + 2 * kInner + kHidden;
// Elements of A and of B (q, k and v and gate and up have an adapter each), and of the columns of a site's matrix in which its Bs lie.
constexpr double kOfA = kLayers * kRank * (3 * kHidden + kQ + 2 * kHidden + kInner), kOfB = kLayers * kRank * kOuts;
constexpr double kOfBlocks = kLayers * kRank * (3 * (kQ + 2 * kKv) + kHidden + 2 * 2 * kInner + kHidden);
// Bytes that no step does without, of BF16 activations, an F32 gradient of the residual stream, and a stream that is read and written as
// BF16: per block twice a sum with its norm, rotation, SwiGLU; back SwiGLU and its output, twice a norm into the stream's gradient,
// rotation.
constexpr double kFewestOfRows = kRows * kLayers *
                                 (2 * (4 * 2 * kHidden) + 2 * 2 * (kQ + kKv) + 3 * 2 * kInner + 6 * 2 * kInner +
                                  2 * (2 * 2 * kHidden + 8 * kHidden + 2 * kHidden) + 2 * 2 * (kQ + kKv));
constexpr double kFewestOfAdapters = kRows * kLayers * 2 * (kIns + kOuts + kIns);  // x for A x, d_y for B's side, x for A's gradient
constexpr double kFewestOfLoss = kRows * 3 * 2 * kVocabulary;
constexpr double kFewest = kFewestOfRows + kFewestOfAdapters + kFewestOfLoss;

void print(const Counted& counted) {
  std::printf("%-14s %9s %9s %9s %8s %8s\n", "part", "launches", "GB", "TFLOP", "H100 ms", "H200 ms");
  for (int i = 0; i < static_cast<int>(Part::kParts); ++i) {
    const GpuCosts::Op& op = counted.parts[i];
    std::printf("%-14s %9ld %9.1f %9.2f %8.1f %8.1f\n", kPartNames[i], static_cast<long>(op.launches), op.bytes / 1e9,
                (op.matrix + op.scalar) / 1e12, 1e3 * seconds_of(counted, kH100, static_cast<Part>(i)),
                1e3 * seconds_of(counted, kH200, static_cast<Part>(i)));
  }
  const double bytes = counted.of(Part::rows).bytes + counted.of(Part::adapters).bytes + counted.of(Part::loss).bytes;
  std::printf("bytes %.3f of the fewest; a block, both ways: %.1f launches of ours, %.1f products; waits %ld, copies %ld, fills %ld\n",
              bytes / kFewest, static_cast<double>(counted.launches) / kLayers, static_cast<double>(counted.products) / kLayers,
              static_cast<long>(counted.costs.waits), static_cast<long>(counted.costs.copies), static_cast<long>(counted.costs.fills));
  for (const Card& card : {kH100, kH200}) std::printf("%s: %.0f tokens/s\n", card.name, tokens_a_second(counted, card));
  for (const auto& [name, op] : counted.costs.ops)
    std::printf("  %-28s %7ld %8.2f GB %8.3f TF %8.3f TF scalar\n", name.c_str(), static_cast<long>(op.launches), op.bytes / 1e9,
                op.matrix / 1e12, op.scalar / 1e12);
}

TEST(StepCosts, OfLlama3At8BAreCounted) {
  const Counted counted = count_step();
  print(counted);
  EXPECT_EQ(counted.costs.silent, 0);
  // What the shapes say, to 2 %: products forward and back; scores and values forward, once more with d_p and three gradients back.
  const auto near = [](double found, double said) { EXPECT_NEAR(found / said, 1, 0.02) << found << " of " << said; };
  near(counted.of(Part::base).matrix, 4 * kWeights * kRows);
  near(counted.of(Part::head).matrix, 4 * kVocabulary * kHidden * kRows);
  near(counted.of(Part::attention).matrix, kLayers * kRows * kLength * kQ * (2 + 7));
  near(counted.of(Part::adapters).matrix, 2 * kRows * (2 * kOfA + kOfB + kOfBlocks));
  // What docs/cuda.md says of it.
  const double bytes = counted.of(Part::rows).bytes + counted.of(Part::adapters).bytes + counted.of(Part::loss).bytes;
  EXPECT_LT(bytes / kFewest, 1.21);
  EXPECT_EQ(counted.forward, 8 * 32 + 2);  // kernels of ours: of blocks, the embedding and the last norm
  EXPECT_EQ(counted.backward, 7 * 32 + 1);
  EXPECT_EQ(counted.products, (8 + 19) * 32 + 2 * 16 - 1);  // nothing is trained below the first layer
  EXPECT_EQ(counted.costs.waits, 1);
  EXPECT_GT(tokens_a_second(counted, kH100), 16800);
  EXPECT_GT(tokens_a_second(counted, kH200), 17900);
}

}  // namespace
}  // namespace loraine::step_costs_test
