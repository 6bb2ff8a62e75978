#include "cpu_model.hpp"

namespace deltatune::cli {

std::unique_ptr<Device> open_cpu(int threads) { return std::make_unique<OnDevice<Bert<X>, Gpt2<X>>>(threads); }

}  // namespace deltatune::cli
