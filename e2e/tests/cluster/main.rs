//! The product on a real cluster, with the chart and the images a user gets.
