// What dpo, kto and rm are told, and what does not go together.
#include "loraine/train/config/preferences.h"

#include <fmt/format.h>

#include "loraine/core/error.h"
#include "loraine/train/objectives/objective.h"

namespace loraine {
namespace {

const Limits kWeight = {.lowest = 0, .highest = 1e6};

[[noreturn]] void broken(const std::string& message, const std::string& hint) { throw Error(ErrorKind::usage, message, hint); }

}  // namespace

void describe_preferences(TrainConfig& c, const OptionVisitor& visit) {
  visit({"pref_loss",
         "preferences",
         &c.pref_loss,
         "stage dpo: the loss of a pair; orpo and simpo need no reference",
         {.choices = {"sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo"}, .built = {"sigmoid", "hinge", "ipo", "orpo", "simpo"}}});
  visit({"pref_beta",
         "preferences",
         &c.pref_beta,
         "stages dpo and kto: how much a difference of log-probabilities is worth",
         {.lowest = 0, .highest = 1e6, .above_lowest = true}});
  visit({"pref_ftx", "preferences", &c.pref_ftx, "stages dpo and kto: weight of the loss of supervised fine-tuning on good answers, added",
         kWeight});
  visit({"pref_bco_weight", "preferences", &c.pref_bco_weight, "stage dpo: weight of BCO's loss beside the other, with a reference",
         kWeight});
  visit({"dpo_label_smoothing",
         "preferences",
         &c.dpo_label_smoothing,
         "pref_loss sigmoid: share of pairs taken to be the wrong way round",
         {.lowest = 0, .highest = 0.5, .below_highest = true}});
  visit({"simpo_gamma", "preferences", &c.simpo_gamma, "pref_loss simpo: margin that a pair is to have", kWeight});
  visit({"ld_alpha",
         "preferences",
         &c.ld_alpha,
         "stage dpo: weight of the labels of the longer answer beyond the length of the shorter one (LD-DPO); null: 1",
         {.lowest = 0, .highest = 1}});
  visit({"kto_chosen_weight", "preferences", &c.kto_chosen_weight, "stage kto: weight of good answers", kWeight});
  visit({"kto_rejected_weight", "preferences", &c.kto_rejected_weight, "stage kto: weight of bad answers", kWeight});
  visit({"ref_model", "preferences", &c.ref_model,
         "what preferences are compared with: a model like model_name_or_path; null: the base as it is before training"});
  visit({"ref_model_adapters", "preferences", &c.ref_model_adapters, "adapters of ref_model, on together", {.comma_list = true}});
  visit({"ref_model_quantization_bit",
         "preferences",
         &c.ref_model_quantization_bit,
         "ref_model in 4 or 8 bits; null: as it is",
         {.numbers = {4, 8}}});
}

// What the loss of preferences compares with, and keys that only some of those losses read.
void check_preferences(const TrainConfig& c) {
  const bool pairs = c.stage == "dpo";
  if (pairs && c.dpo_label_smoothing > 0 && c.pref_loss != "sigmoid")
    broken(fmt::format("dpo_label_smoothing goes with pref_loss sigmoid only, and it is {}", c.pref_loss), "leave it out");
  const bool compares = compares_with_reference(c);
  if (pairs && !compares && c.pref_bco_weight > 0)
    broken(fmt::format("pref_bco_weight compares with a reference, and pref_loss {} has none", c.pref_loss), "leave it out");
  if (!c.ref_model && (c.ref_model_adapters || c.ref_model_quantization_bit))
    broken("ref_model_adapters and ref_model_quantization_bit belong to ref_model, which is not given",
           "name the reference: ref_model: DIR");
  if (c.ref_model && (!compares || c.use_asft_loss))
    broken(fmt::format(
               "ref_model is what stages dpo (but for pref_loss orpo and simpo), kto and grpo (with beta above 0) compare with, and this "
               "is stage {}{}",
               c.stage,
               pairs               ? ", pref_loss " + c.pref_loss
               : c.stage == "grpo" ? ", beta 0"
                                   : ""),
           "leave it out");
  const std::string start = c.pissa_init ? "pissa" : c.init_lora_weights;
  if (compares && !c.ref_model && !c.use_asft_loss && (start == "pissa" || start == "olora" || start == "loftq"))
    broken(fmt::format("stage {} compares with the base, and the start {} of the adapter is taken out of it", c.stage, start),
           "give the base once more as ref_model, or leave the start out");
  if (c.stage != "sft" && c.stage != "pt" && c.packing.value_or(false))
    broken(fmt::format("packing goes with stages sft and pt only, and it is {}", c.stage), "leave it out");
  if (c.stage != "sft" && c.stage != "pt" && c.label_smoothing_factor > 0)
    broken(fmt::format("label_smoothing_factor has no meaning in stage {}", c.stage),
           pairs ? "dpo_label_smoothing smooths pairs" : "leave it out");
}

}  // namespace loraine
