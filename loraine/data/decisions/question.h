// A question with few answers: how it is put to a model, and with which labels it answers. Used by the encoder of stage decision and by
// serving, so that what is asked is what was trained.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace loraine {

enum class DecisionKind : uint8_t { yes_no, choice, score };

inline constexpr size_t kMostChoices = 255;

struct DecisionWording {
  DecisionKind kind = DecisionKind::yes_no;
  std::string instructions;         // what is asked; may be empty: the text before it asks
  std::vector<std::string> shown;   // what each label stands for, in their order; empty: the label says it itself
  std::vector<std::string> labels;  // what the model answers with
};

// Fills in the labels for what is shown: yes and no; of choices A, B, …, beyond 26 of them 001, 002, …; of scores the numbers themselves
// where all are numbers of one width, which then are not shown beside, else 0 … 9, beyond 10 of them 000, 001, …. All of one width, so that
// none begins another.
void label_choices(DecisionWording& wording);

// What stands behind the text that is asked about, in the same turn: the instructions, a line per label, and that one label is wanted.
std::string decision_text(const DecisionWording& wording);

}  // namespace loraine
