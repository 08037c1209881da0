// Standard errors of quotients and of their differences; tables.
#include "loraine/eval/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace loraine {
namespace {

constexpr double kNormal95 = 1.959963984540054;

double total(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }
double quotient(const Figure& f) { return total(f.sums) / total(f.weights); }

// How far each unit moves the figure, to first order: (sum − quotient · weight) / mean weight, through exp and scale.
std::vector<double> influences(const Figure& f) {
  const double q = quotient(f), n = static_cast<double>(f.sums.size()), mean_weight = total(f.weights) / n;
  const double slope = f.scale * (f.exponential ? std::exp(q) : 1.0);
  std::vector<double> moves;
  for (size_t i = 0; i < f.sums.size(); ++i) moves.push_back(slope * (f.sums[i] - q * f.weights[i]) / mean_weight);
  return moves;
}

double standard_error(const std::vector<double>& moves) {
  const double n = static_cast<double>(moves.size());
  double squares = 0;
  for (double move : moves) squares += move * move;
  return std::sqrt(squares / (n * (n - 1)));
}

Interval range_of(const Figure& f) { return f.proportion ? Interval{0, f.scale} : Interval{f.lowest, f.highest}; }

const Figure* figure_named(const EvalResult& result, const std::string& name) {
  for (const Figure& figure : result.figures)
    if (figure.name == name) return &figure;
  return nullptr;
}

std::string interval_text(const std::optional<Interval>& interval) {
  return interval ? fmt::format("{:.4f} to {:.4f}", interval->low, interval->high) : "";
}

OrderedJson interval_json(const std::optional<Interval>& interval) {
  return interval ? OrderedJson::array({interval->low, interval->high}) : OrderedJson();
}

}  // namespace

double value_of(const Figure& f) { return f.scale * (f.exponential ? std::exp(quotient(f)) : quotient(f)); }

std::optional<Interval> interval_of(const Figure& f) {
  const double n = static_cast<double>(f.sums.size());
  if (f.sums.size() < 2) return {};
  if (f.proportion) {  // Wilson 1927
    const double p = quotient(f), z2 = kNormal95 * kNormal95, centre = (p + z2 / (2 * n)) / (1 + z2 / n);
    const double half = kNormal95 * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);
    return Interval{f.scale * std::max(0.0, centre - half), f.scale * std::min(1.0, centre + half)};
  }
  const double value = value_of(f), half = kNormal95 * standard_error(influences(f));
  return Interval{std::max(f.lowest, value - half), std::min(f.highest, value + half)};
}

std::optional<Interval> interval_of_difference(const Figure& a, const Figure& b) {
  if (a.sums.size() != b.sums.size() || a.sums.size() < 2) return {};
  std::vector<double> moves = influences(a);
  const std::vector<double> others = influences(b);
  for (size_t i = 0; i < moves.size(); ++i) moves[i] -= others[i];
  const double difference = value_of(a) - value_of(b), half = kNormal95 * standard_error(moves);
  return Interval{std::max(range_of(a).low - range_of(b).high, difference - half),
                  std::min(range_of(a).high - range_of(b).low, difference + half)};
}

void add_figure(EvalResult& result, Figure figure) {
  if (figure.sums.empty()) return;
  result.metrics[figure.name] = value_of(figure);
  result.figures.push_back(std::move(figure));
}

OrderedJson intervals_json(const EvalResult& result) {
  OrderedJson json = OrderedJson::object();
  for (const Figure& figure : result.figures) json[figure.name] = interval_json(interval_of(figure));
  return json;
}

OrderedJson comparison_json(const std::vector<EvalResult>& results) {
  OrderedJson json = {{"confidence", 0.95}, {"models", OrderedJson::array()}};
  for (const EvalResult& result : results) {
    OrderedJson one = {{"name", result.name}, {"metrics", result.metrics}, {"intervals", intervals_json(result)}};
    if (&result != &results.front()) {
      OrderedJson differences = OrderedJson::object();
      for (const Figure& figure : result.figures)
        if (const Figure* first = figure_named(results.front(), figure.name))
          differences[figure.name] = {{"difference", value_of(figure) - value_of(*first)},
                                      {"interval", interval_json(interval_of_difference(figure, *first))}};
      one["difference_to_" + results.front().name] = differences;
    }
    json["models"].push_back(one);
  }
  return json;
}

std::vector<std::vector<std::string>> comparison_rows(const std::vector<EvalResult>& results) {
  const bool several = results.size() > 1;
  std::vector<std::vector<std::string>> rows = {{"figure", "model", "value", "95 % interval"}};
  if (several) rows[0].insert(rows[0].end(), {"against " + results.front().name, "95 % interval"});
  for (const Figure& shared : results.front().figures)
    for (const EvalResult& result : results) {
      const Figure* figure = figure_named(result, shared.name);
      if (!figure) continue;
      rows.push_back({shared.name, result.name, fmt::format("{:.4f}", value_of(*figure)), interval_text(interval_of(*figure))});
      if (several && figure != &shared) {
        rows.back().push_back(fmt::format("{:+.4f}", value_of(*figure) - value_of(shared)));
        rows.back().push_back(interval_text(interval_of_difference(*figure, shared)));
      }
    }
  return rows;
}

std::string markdown_table(const std::vector<std::vector<std::string>>& rows) {
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    text += "|";
    for (size_t c = 0; c < rows[0].size(); ++c) text += " " + (c < rows[r].size() ? rows[r][c] : "") + " |";
    text += "\n";
    if (r == 0) {
      text += "|";
      for (size_t c = 0; c < rows[0].size(); ++c) text += "---|";
      text += "\n";
    }
  }
  return text;
}

}  // namespace loraine
