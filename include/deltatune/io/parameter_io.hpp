// Parameters from and to tensors of a file.
#pragma once

#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/param/parameter.hpp"

namespace deltatune {

// Host numbers, row-major, into a parameter's values.
template <class X, class Host>
void upload_values(context_of<X>& ctx, std::span<const Host> host, Parameter<X>& parameter) {
  using T = scalar_of<X>;
  if constexpr (std::is_same_v<T, Host>) {
    backend_of<X>::copy_in(ctx, host.data(), parameter.value().data, static_cast<Index>(host.size_bytes()));
  } else {
    std::vector<T> converted;
    converted.reserve(host.size());
    for (const Host x : host) converted.push_back(T(x));
    backend_of<X>::copy_in(ctx, converted.data(), parameter.value().data, static_cast<Index>(converted.size() * sizeof(T)));
  }
}

// Reads a tensor into a parameter's values. Throws Error when shape or element type do not fit.
template <class X>
void read_parameter(context_of<X>& ctx, const TensorInfo& tensor, Parameter<X>& parameter) {
  using T = scalar_of<X>;
  if (tensor.shape != parameter.shape())
    throw Error(tensor.file + ": " + tensor.name, "does not fit the model's " + parameter.path(),
                {.expected = "shape " + to_string(parameter.shape()), .got = to_string(tensor.shape)});
  using Host = std::conditional_t<std::is_same_v<T, float>, float, double>;
  std::vector<Host> host(static_cast<std::size_t>(parameter.size()));
  read_floats(tensor, std::span<Host>(host));
  upload_values(ctx, std::span<const Host>(host), parameter);
}

// A matrix of the backend as float numbers on the host, row-major.
template <class X>
std::vector<float> download_floats(context_of<X>& ctx, View<const scalar_of<X>> values) {
  using T = scalar_of<X>;
  std::vector<T> host(static_cast<std::size_t>(values.size()));
  for (Index i = 0; i < values.rows; ++i)
    backend_of<X>::copy_out(ctx, values.row(i), host.data() + i * values.cols, values.cols * static_cast<Index>(sizeof(T)));
  backend_of<X>::synchronize(ctx);
  if constexpr (std::is_same_v<T, float>) {
    return host;
  } else {
    std::vector<float> converted;
    converted.reserve(host.size());
    for (const T& x : host) converted.push_back(static_cast<float>(value_of(x)));
    return converted;
  }
}

}  // namespace deltatune
