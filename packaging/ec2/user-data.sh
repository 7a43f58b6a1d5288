#!/bin/sh
# User data of an EC2 instance (cloud-init): Weir before anything else of the instance uses the network. Fill in the two
# places; instance metadata (169.254.169.254) has to be a target of the policy where programs need it.
set -eu
package=s3://YOUR-BUCKET/weir_0.1.0_amd64.deb
policy=s3://YOUR-BUCKET/weir-policy.yaml
aws s3 cp "$package" /var/cache/weir.deb
install -d -m 755 /etc/weir/policy
aws s3 cp "$policy" /etc/weir/policy/policy.yaml
dpkg -i /var/cache/weir.deb || apt-get install -y -f
weir policy check /etc/weir/policy
weir install
