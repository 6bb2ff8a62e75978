// The curve of the training loss as a picture: every step faintly, a smoothed curve over it, and the loss of evaluations beside it. Legible on white and
// on black.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "report.hpp"

namespace deltatune::cli {

// The loss of an evaluation after a step.
struct EvaluationPoint {
  double step = 0, loss = 0;
};

namespace detail {

// A distance between ticks of 1, 2 or 5 times a power of ten that gives about `count` of them.
inline double tick_distance(double range, int count) {
  const double rough = range / count, power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= rough * 0.999) return factor * power;
  return 10.0 * power;
}

class LossPlot {
 public:
  LossPlot(std::span<const double> losses, std::span<const EvaluationPoint> evaluations) {
    for (const double loss : losses) losses_.push_back(std::isfinite(loss) ? loss : losses_.empty() ? 0.0 : losses_.back());
    if (losses_.empty()) losses_.push_back(0.0);
    for (const EvaluationPoint& point : evaluations)
      if (std::isfinite(point.loss)) evaluations_.push_back(point);
    std::vector<double> all = losses_;
    for (const EvaluationPoint& point : evaluations_) all.push_back(point.loss);
    const auto [lowest, highest] = std::minmax_element(all.begin(), all.end());
    y_tick_ = tick_distance(std::max(*highest - *lowest, 1e-3 * std::max(1.0, std::abs(*highest))), 6);
    bottom_ = std::floor(*lowest / y_tick_) * y_tick_;
    top_ = std::max(std::ceil(*highest / y_tick_) * y_tick_, bottom_ + y_tick_);
    steps_ = std::max(2.0, static_cast<double>(losses_.size()));
    for (const EvaluationPoint& point : evaluations_) steps_ = std::max(steps_, point.step);
  }

  std::string svg() const {
    std::string text =
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 420\" font-family=\"sans-serif\" font-size=\"13\">\n"
        "<title>Loss by step</title>\n"
        "<style>\n"
        "  text { fill: #777; } .grid { stroke: #888; stroke-opacity: 0.35; } .axis { stroke: #888; fill: none; }\n"
        "  .raw { stroke: #4a90d9; stroke-opacity: 0.55; fill: none; } .smooth { stroke: #2f7fd0; stroke-width: 2.5; fill: none; }\n"
        "  .evaluation { stroke: #d9822b; stroke-width: 2; fill: none; } circle { fill: #d9822b; }\n"
        "  @media (prefers-color-scheme: dark) { text { fill: #bbb; } .smooth { stroke: #6db3f8; } }\n"
        "</style>\n";
    text += y_axis() + x_axis();
    text += "<path class=\"axis\" d=\"M" + point(1, top_) + " L" + point(1, bottom_) + " L" + point(steps_, bottom_) + "\"/>\n";
    text += "<text x=\"360\" y=\"412\" text-anchor=\"middle\">step</text>\n";
    text += "<text x=\"16\" y=\"195\" text-anchor=\"middle\" transform=\"rotate(-90 16 195)\">" + std::string(evaluations_.empty() ? "training loss" : "loss") +
            "</text>\n";
    return text + curve("raw", losses_) + curve("smooth", smoothed()) + evaluation() + "</svg>\n";
  }

 private:
  static constexpr double kLeft = 70, kRight = 700, kTop = 20, kBottom = 370;

  double x(double step) const { return kLeft + (step - 1.0) / (steps_ - 1.0) * (kRight - kLeft); }
  double y(double loss) const { return kBottom - (loss - bottom_) / (top_ - bottom_) * (kBottom - kTop); }
  std::string point(double step, double loss) const { return formatted("%.1f", x(step)) + " " + formatted("%.1f", y(loss)); }

  std::string y_axis() const {
    std::string text;
    const int count = static_cast<int>(std::lround((top_ - bottom_) / y_tick_));
    const int digits = std::clamp(static_cast<int>(-std::floor(std::log10(y_tick_) + 1e-9)), 0, 9);
    for (int i = 0; i <= count; ++i) {
      const double value = bottom_ + i * y_tick_;
      const std::string at = formatted("%.1f", y(value));
      text += "<path class=\"grid\" d=\"M" + point(1, value) + " H" + formatted("%.1f", kRight) + "\"/>";
      text += "<text x=\"62\" y=\"" + at + "\" dy=\"4\" text-anchor=\"end\">" + formatted(("%." + std::to_string(digits) + "f").c_str(), value) + "</text>\n";
    }
    return text;
  }

  std::string x_axis() const {
    std::string text;
    const double distance = std::max(1.0, tick_distance(steps_, 8));
    for (double step = distance; step <= steps_; step += distance)
      text += "<text x=\"" + formatted("%.1f", x(step)) + "\" y=\"390\" text-anchor=\"middle\">" + grouped(static_cast<Index>(step)) + "</text>\n";
    return text;
  }

  // Exponential mean over about a thirtieth of the run, at least four steps, without the pull of its start.
  std::vector<double> smoothed() const {
    const double decay = 1.0 - 1.0 / std::max(4.0, static_cast<double>(losses_.size()) / 30.0);
    std::vector<double> result;
    double sum = 0, weight = 0;
    for (const double loss : losses_) {
      sum = decay * sum + loss;
      weight = decay * weight + 1.0;
      result.push_back(sum / weight);
    }
    return result;
  }

  // Of long runs the lowest and the highest value of each stretch: no more points than can be seen.
  std::string curve(const char* name, const std::vector<double>& values) const {
    constexpr std::size_t kStretches = 800;
    const std::size_t length = values.size() / kStretches + 1;
    std::string path;
    const auto add = [&](std::size_t i) { path += (path.empty() ? "M" : " L") + point(static_cast<double>(i + 1), values[i]); };
    for (std::size_t first = 0; first < values.size(); first += length) {
      const auto begin = values.begin() + static_cast<std::ptrdiff_t>(first);
      const auto [lowest, highest] = std::minmax_element(begin, begin + static_cast<std::ptrdiff_t>(std::min(length, values.size() - first)));
      const std::size_t a = static_cast<std::size_t>(std::min(lowest, highest) - values.begin());
      const std::size_t b = static_cast<std::size_t>(std::max(lowest, highest) - values.begin());
      add(a);
      if (b != a) add(b);
    }
    return "<path class=\"" + std::string(name) + "\" stroke-linejoin=\"round\" d=\"" + path + "\"/>\n";
  }

  // The evaluations as points on a line, and which curve is which.
  std::string evaluation() const {
    if (evaluations_.empty()) return "";
    const std::size_t every = evaluations_.size() / 400 + 1;
    std::string path, points;
    for (std::size_t i = 0; i < evaluations_.size(); ++i) {
      if (i % every != 0 && i + 1 < evaluations_.size()) continue;
      const double step = std::max(1.0, evaluations_[i].step), loss = evaluations_[i].loss;
      path += (path.empty() ? "M" : " L") + point(step, loss);
      points += "<circle cx=\"" + formatted("%.1f", x(step)) + "\" cy=\"" + formatted("%.1f", y(loss)) + "\" r=\"3\"/>\n";
    }
    return "<path class=\"evaluation\" stroke-linejoin=\"round\" d=\"" + path + "\"/>\n" + points +
           "<path class=\"smooth\" d=\"M540 30 H565\"/><text x=\"572\" y=\"34\">training loss</text>\n"
           "<path class=\"evaluation\" d=\"M540 50 H565\"/><circle cx=\"552.5\" cy=\"50\" r=\"3\"/><text x=\"572\" y=\"54\">evaluation loss</text>\n";
  }

  std::vector<double> losses_;
  std::vector<EvaluationPoint> evaluations_;
  double y_tick_ = 1, bottom_ = 0, top_ = 1, steps_ = 2;
};

}  // namespace detail

// losses[i]: of step i + 1.
inline std::string loss_plot_svg(std::span<const double> losses, std::span<const EvaluationPoint> evaluations = {}) {
  return detail::LossPlot(losses, evaluations).svg();
}

}  // namespace deltatune::cli
