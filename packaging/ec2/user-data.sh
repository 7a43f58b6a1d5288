#!/bin/sh
# User data of an EC2 instance (cloud-init), or of an instance of an ECS cluster: Weir before anything else of the instance uses
# the network. Fill in the two places; instance metadata (169.254.169.254) has to be a target of the policy where programs need
# it, and of a cluster ECS's own endpoints. Tasks in the network modes bridge and host are governed; awsvpc gives a task an
# interface that passes the host by: give it the sidecar of ../kubernetes, or take the mode from the cluster.
set -eu
package=s3://YOUR-BUCKET/weir_0.1.0_amd64.deb
policy=s3://YOUR-BUCKET/weir-policy.yaml
cluster='' # name of the ECS cluster; empty: a plain instance
aws s3 cp "$package" /var/cache/weir.deb
install -d -m 755 /etc/weir/policy
aws s3 cp "$policy" /etc/weir/policy/policy.yaml
dpkg -i /var/cache/weir.deb || apt-get install -y -f
weir policy check /etc/weir/policy
weir install
if [ -n "$cluster" ]; then
  # ECS's agent starts behind it, and closed.
  install -d -m 755 /etc/ecs
  printf 'ECS_CLUSTER=%s\nECS_ENABLE_TASK_ENI=false\n' "$cluster" >>/etc/ecs/ecs.config
fi
