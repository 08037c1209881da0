// How an adapter starts: PEFT's init_lora_weights, by name. PiSSA (Meng et al. 2024) and OLoRA (Büyükakyüz 2024) put a part of W into A and
// B and leave the rest as the base; LoftQ (loftq.h) quantises the base. Called by attach() of train and by peft_files.
#pragma once
#include <vector>

#include "loraine/adapters/attach.h"
#include "loraine/adapters/loftq.h"

namespace loraine {

// Whether `init` (init_lora_weights) is a start that is built: true, false, gaussian, orthogonal, olora, pissa, pissa_niter_N, loftq, and
// those out of the data (data_start.h): eva, corda, lora_ga.
bool known_start(const std::string& init);
// Whether it searches for its singular vectors at random (pissa_niter_N): PEFT finds other ones each time, loraine the same.
bool searches_at_random(const LoraConfig& config);
// Whether it takes s B A out of the base: the file of such an adapter expects the same of whoever loads it.
bool changes_base(const LoraConfig& config);

// First values of A and B, but for loftq's. For a start that changes the base they depend on W alone, so that they can be found again; the
// base is not changed here.
void init_lora(AdapterSet& set, const std::vector<const Weight*>& sites, const LoraConfig& config, uint64_t seed);

// All first values of an adapter, and the base changed where the start asks for it. read_whole: see quantise_base of loftq.h.
void start_adapter(AdapterSet& set, const std::vector<Weight*>& sites, const LoraConfig& config, uint64_t seed,
                   const ReadWhole& read_whole = {});

// Takes s B A of `start` out of the weights: what was mapped becomes owned, in f32 with one rounding to the stored type.
void subtract_from_base(const std::vector<Weight*>& sites, const AdapterSet& start);

// The adapter over the base as it was, for one that was trained over base − start: A' = [A; A₀], B' = [B | −B₀], rank, alpha and patterns
// doubled (alpha times √2 with rslora). config is changed likewise. usage for rslora with patterns, as PEFT.
AdapterSet over_whole_base(const AdapterSet& trained, const AdapterSet& start, const std::vector<const Weight*>& sites, LoraConfig& config);

}  // namespace loraine
